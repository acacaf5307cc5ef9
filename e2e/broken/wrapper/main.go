// Command wrapper is BROKEN ON PURPOSE: a negative control on which `make test` checks the requirements. Never install
// it.
//
// It replaces a real plugin, under its name, with the real one beside it as NAME.real. It has one defect, which the
// file NAME.defect beside it names; see defects. Further words of that file are the versions of the specification that
// it advertises, which shortens a test; without them they are those of the real plugin. The defect "none" changes
// nothing.
//
// It does not use skel, which would keep it from breaking things. It adds what macvlan and host-local lack (see
// mended): with "none" in both places all requirements pass, so that the defect causes every failure.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
)

// call is one execution of a plugin.
type call struct {
	// plugin is the path of the wrapper.
	plugin string
	verb   string
	env    map[string]string
	stdin  []byte
	// unreadable says that stdin cannot be read.
	unreadable bool
	// config is the object on stdin; empty if there is none.
	config map[string]any
}

// answer is the outcome.
type answer struct {
	stdout, stderr string
	status         int
}

// plugin answers calls.
type plugin func(*call) answer

// defect is called between the runtime and a plugin.
type defect func(c *call, next plugin) answer

func main() {
	if len(os.Args) > 2 && os.Args[1] == lingering {
		// A process that must not end within a test ends with the node; for one that must end the argument says when.
		d, err := time.ParseDuration(os.Args[2])
		if err != nil {
			d = 0
		}
		time.Sleep(d)
		return
	}
	a, err := run()
	if err != nil {
		a = answer{stderr: err.Error() + "\n", status: 70}
	}
	fmt.Print(a.stdout)
	fmt.Fprint(os.Stderr, a.stderr)
	os.Exit(a.status)
}

func run() (answer, error) {
	path, err := os.Executable()
	if err != nil {
		return answer{}, err
	}
	text, err := os.ReadFile(path + ".defect")
	if err != nil {
		return answer{}, err
	}
	words := strings.Fields(string(text))
	if len(words) == 0 {
		return answer{}, fmt.Errorf("%s.defect: want the name of a defect, got nothing", path)
	}
	spoil, known := defects()[words[0]]
	if !known {
		return answer{}, fmt.Errorf("defect %q: want one of %v", words[0], slices.Sorted(maps.Keys(defects())))
	}
	c := &call{plugin: path, verb: os.Getenv("CNI_COMMAND"), env: map[string]string{}}
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		c.env[name] = value
	}
	if c.stdin, err = io.ReadAll(os.Stdin); err != nil {
		c.unreadable = true // the real plugin reports it
	}
	if json.Unmarshal(c.stdin, &c.config) != nil {
		c.config = map[string]any{} // the real plugin reports the mistake
	}
	honest := advertising(words[1:], mended(filepath.Base(path)))
	return spoil(c, honest), nil
}

// real calls the wrapped plugin without changes.
func real(c *call) answer { return execute(c.plugin+".real", c) }

// ipam calls the plugin that the configuration delegates to.
func ipam(c *call) answer {
	section, _ := c.config["ipam"].(map[string]any)
	name, _ := section["type"].(string)
	path, err := invoke.FindInPath(name, filepath.SplitList(c.env["CNI_PATH"]))
	if err != nil {
		return c.fail(types.ErrInternal, "ipam %q: %v", name, err)
	}
	return execute(path, c)
}

func execute(path string, c *call) answer {
	cmd := exec.Command(path)
	for name, value := range c.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.stdin), &stdout, &stderr
	if c.unreadable {
		cmd.Stdin = os.Stdin
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return c.fail(types.ErrInternal, "%s: %v", path, err)
	}
	return answer{stdout: stdout.String(), stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}
}

// fail returns the answer of a plugin that follows the specification.
func (c *call) fail(code uint, format string, args ...any) answer {
	version, _ := c.config["cniVersion"].(string)
	text, err := json.Marshal(map[string]any{"cniVersion": version, "code": code, "msg": fmt.Sprintf(format, args...)})
	if err != nil {
		return answer{stderr: err.Error(), status: 70}
	}
	return answer{stdout: string(text), status: 1}
}

// as returns the same call with another verb.
func (c *call) as(verb string) *call {
	other := c.with("CNI_COMMAND", verb)
	other.verb = verb
	return other
}

// with returns the call with another value of a variable; empty removes it.
func (c *call) with(name, value string) *call {
	other := *c
	other.env = maps.Clone(c.env)
	if other.env[name] = value; value == "" {
		delete(other.env, name)
	}
	return &other
}

// edited returns the call with another configuration. Objects in it are shared with the original until edit replaces
// them.
func (c *call) edited(edit func(config map[string]any)) *call {
	other := *c
	other.config = maps.Clone(c.config)
	edit(other.config)
	text, err := json.Marshal(other.config)
	if err != nil || len(c.config) == 0 {
		return c
	}
	other.stdin = text
	return &other
}

// text returns the value of a key of the configuration.
func (c *call) text(key string) string {
	value, _ := c.config[key].(string)
	return value
}

// prevResult returns the previous result that the runtime passes; nil if there is none.
func (c *call) prevResult() map[string]any {
	result, _ := c.config["prevResult"].(map[string]any)
	return result
}

// errorOf returns the error object of an answer.
func (a answer) errorOf() (types.Error, bool) {
	var e types.Error
	return e, a.status != 0 && json.Unmarshal([]byte(a.stdout), &e) == nil
}

// result returns the result in an answer, if there is one.
func (a answer) result() (map[string]any, bool) {
	var result map[string]any
	return result, a.status == 0 && json.Unmarshal([]byte(a.stdout), &result) == nil
}

// edited returns the answer with another result; an answer without a result stays as it is.
func (a answer) edited(edit func(result map[string]any)) answer {
	result, ok := a.result()
	if !ok {
		return a
	}
	edit(result)
	text, err := json.Marshal(result)
	if err != nil {
		return answer{stderr: err.Error(), status: 70}
	}
	a.stdout = string(text)
	return a
}

// objects returns the objects in a list of an object.
func objects(in map[string]any, key string) []map[string]any {
	list, _ := in[key].([]any)
	var found []map[string]any
	for _, item := range list {
		if object, ok := item.(map[string]any); ok {
			found = append(found, object)
		}
	}
	return found
}
