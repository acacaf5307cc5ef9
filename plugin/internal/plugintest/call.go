package plugintest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Call is one execution of a plugin. A variable whose field is empty is not set, except IfName, whose default is eth0.
type Call struct {
	Command, ID, Netns, IfName, Args, Stdin string
}

// Cmd returns the call of a plugin as a process to start.
func (c Call) Cmd(plugin string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(BinDir(), plugin))
	if c.IfName == "" {
		c.IfName = "eth0"
	}
	cmd.Env = []string{"CNI_COMMAND=" + c.Command, "CNI_IFNAME=" + c.IfName, "CNI_PATH=" + BinDir()}
	if c.ID != "" {
		cmd.Env = append(cmd.Env, "CNI_CONTAINERID="+c.ID)
	}
	if c.Args != "" {
		cmd.Env = append(cmd.Env, "CNI_ARGS="+c.Args)
	}
	if c.Netns != "" {
		cmd.Env = append(cmd.Env, "CNI_NETNS="+c.Netns)
	}
	cmd.Stdin = strings.NewReader(c.Stdin)
	return cmd
}

// Error is the error object that a plugin prints.
type Error struct {
	Code uint
	Msg  string
}

// String returns the code and the message, or "success" for nil.
func (e *Error) String() string {
	if e == nil {
		return "success"
	}
	return fmt.Sprintf("%d: %s", e.Code, e.Msg)
}

// Run executes a plugin and returns its standard output, and the error object if the output is one. The function start
// starts the process in the namespaces of a node. Output that is not a single JSON document fails the test.
func (c Call) Run(t *testing.T, plugin string, start func(*exec.Cmd) error) (string, *Error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := c.Cmd(plugin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	out := stdout.String()
	if out != "" && !json.Valid(stdout.Bytes()) {
		t.Fatalf("%s: want one JSON document on standard output, got %s", c.Command, out)
	}
	if exit == nil {
		return out, nil
	}
	var e Error
	if err := json.Unmarshal(stdout.Bytes(), &e); err != nil {
		t.Fatalf("%s: want an error object, got %q: %v\n%s", c.Command, out, err, stderr.String())
	}
	return out, &e
}
