// Package stub implements plugins that follow orders: they record their input, and fail, hang, answer wrongly or
// delegate to another plugin. Checks use them in place of an IPAM plugin, or in a chain.
//
// A stub is a file whose interpreter is the process of the agent (execve(2)): "#!/proc/PID/exe ARGUMENT". So every
// program that serves as an agent can be a stub too, and nothing needs to be installed. See Install and Main.
//
// Run its tests: go test ./e2e/fault/stub
package stub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Dir is the directory of stubs on a node. Append it to CNI_PATH.
const Dir = "/opt/cni/cnitest"

// IPAM and Chained are the types under which configurations name stubs.
const (
	IPAM    = "cnitest-ipam"
	Chained = "cnitest-chained"
)

// Key is the key of a stub's orders: in the object ipam for IPAM, in the plugin's own object for Chained.
const Key = "cnitestStub"

// Orders say what a stub does.
type Orders struct {
	// Log is a directory that receives a Record for each call; empty means that calls are not recorded.
	Log string `json:"log,omitempty"`
	// Delegate is the configuration that the stub replaces: unless it must fail, the stub delegates to its type.
	// Without one, ADD of IPAM returns no addresses, and Chained passes prevResult on.
	Delegate map[string]any `json:"delegate,omitempty"`
	// On contains behaviours that replace this, by verb.
	On map[string]Behaviour `json:"on,omitempty"`
}

// Behaviour is what a stub does with a verb.
type Behaviour struct {
	// Code and Msg are the error that it returns; with Code 0 it returns none.
	Code uint   `json:"code,omitempty"`
	Msg  string `json:"msg,omitempty"`
	// Hang makes the stub hang without an answer.
	Hang bool `json:"hang,omitempty"`
	// Delay is the time that it waits first.
	Delay time.Duration `json:"delay,omitempty"`
	// While is the path of a file: the stub first waits while it exists. Empty means that it does not wait.
	While string `json:"while,omitempty"`
	// Times limits how often it behaves so, counted in the log; 0 means always.
	Times int `json:"times,omitempty"`
	// Stderr is written to standard error.
	Stderr string `json:"stderr,omitempty"`
	// Result replaces the result of the delegate.
	Result json.RawMessage `json:"result,omitempty"`
	// Output replaces everything that it prints on standard output, whether it is JSON or not; nil replaces nothing.
	Output *string `json:"output,omitempty"`
	// Killed makes it end by a signal, before it prints anything.
	Killed bool `json:"killed,omitempty"`
	// After makes the stub call the delegate before it fails, is killed or prints Output.
	After bool `json:"after,omitempty"`
}

// Record is a call that a stub received.
type Record struct {
	Plugin string   `json:"plugin"`
	Verb   string   `json:"verb"`
	Env    []string `json:"env"`
	Stdin  string   `json:"stdin"`
	// Start is the time at which the stub read its input; it ends when what its orders say is done.
	Start time.Time `json:"start"`
	// Netns identifies the network namespace that the stub runs in, Sandbox the one at the path of CNI_NETNS, which is
	// empty if there is none.
	Netns   string `json:"netns"`
	Sandbox string `json:"sandbox,omitempty"`
	// Addresses are those of the interface CNI_IFNAME in Sandbox at Start, as CIDR notations.
	Addresses []string `json:"addresses,omitempty"`
}

// Var returns the value of a variable of the call's environment, and whether it was set.
func (r Record) Var(name string) (string, bool) {
	for _, e := range r.Env {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// Names returns the names of the stubs.
func Names() []string { return []string{IPAM, Chained} }

// Install writes the stubs to a directory. argument is the argument with which the program of this process calls Main
// with the path of the stub. It may be called again.
func Install(dir, argument string) error {
	if strings.ContainsAny(argument, " \t\n") {
		return fmt.Errorf("argument %q: an interpreter takes one word", argument)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("#!/proc/%d/exe %s\n", os.Getpid(), argument)
	for _, name := range Names() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Main runs the stub at a path. It returns the exit status.
func Main(path string) int {
	answer, err := run(filepath.Base(path))
	if err != nil {
		var known *types.Error
		if !errors.As(err, &known) {
			known = types.NewError(types.ErrInternal, err.Error(), "")
		}
		_ = known.Print()
		return 1
	}
	fmt.Print(answer)
	return 0
}

type config struct {
	types.PluginConf
	IPAM  *section `json:"ipam"`
	Stub  *Orders  `json:"cnitestStub"`
	whole map[string]any
}

type section struct {
	Stub *Orders `json:"cnitestStub"`
}

func (c *config) orders(plugin string) (*Orders, error) {
	switch {
	case plugin == IPAM && c.IPAM != nil && c.IPAM.Stub != nil:
		return c.IPAM.Stub, nil
	case plugin == Chained && c.Stub != nil:
		return c.Stub, nil
	}
	return nil, fmt.Errorf("%s: no orders under the key %s", plugin, Key)
}

func run(plugin string) (string, error) {
	verb := os.Getenv("CNI_COMMAND")
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return "", err
	}
	if verb == "VERSION" {
		text, err := json.Marshal(map[string]any{
			"cniVersion": version.Current(), "supportedVersions": version.All.SupportedVersions(),
		})
		return string(text), err
	}
	var c config
	if err := json.Unmarshal(stdin, &c); err != nil {
		return "", err
	}
	if err := json.Unmarshal(stdin, &c.whole); err != nil {
		return "", err
	}
	o, err := c.orders(plugin)
	if err != nil {
		return "", err
	}
	count, err := o.record(observe(plugin, verb, stdin))
	if err != nil {
		return "", err
	}
	do, ordered := o.On[verb]
	if !ordered || do.Times > 0 && count > do.Times {
		return c.handOn(plugin, verb, o)
	}
	time.Sleep(do.Delay)
	for do.While != "" {
		if _, err := os.Stat(do.While); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Fprint(os.Stderr, do.Stderr)
	if do.Hang {
		time.Sleep(time.Hour)
	}
	answer := string(do.Result)
	if do.After || do.Code == 0 && do.Result == nil && do.Output == nil && !do.Killed {
		if answer, err = c.handOn(plugin, verb, o); err != nil {
			return "", err
		}
	}
	if do.Killed {
		return "", syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if do.Output != nil {
		return *do.Output, nil
	}
	if do.Code != 0 {
		return "", types.NewError(do.Code, do.Msg, "")
	}
	return answer, nil
}

// observe returns the record of a call that has just begun.
func observe(plugin, verb string, stdin []byte) Record {
	return Record{
		Plugin: plugin, Verb: verb, Env: os.Environ(), Stdin: string(stdin), Start: time.Now(),
		Netns: namespaceAt("/proc/self/ns/net"), Sandbox: namespaceAt(os.Getenv("CNI_NETNS")),
		Addresses: addressesIn(os.Getenv("CNI_NETNS"), os.Getenv("CNI_IFNAME")),
	}
}

// namespaceAt identifies the namespace at a path; it is empty if there is none.
func namespaceAt(path string) string {
	var fs unix.Statfs_t
	var file unix.Stat_t
	if unix.Statfs(path, &fs) != nil || fs.Type != unix.NSFS_MAGIC || unix.Stat(path, &file) != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d", file.Dev, file.Ino)
}

// addressesIn returns the addresses of an interface in the namespace at a path; none if either does not exist.
func addressesIn(path, ifName string) []string {
	if namespaceAt(path) == "" {
		return nil
	}
	var addresses []string
	_ = ns.WithNetNSPath(path, func(ns.NetNS) error {
		link, err := netlinksafe.LinkByName(ifName)
		if err != nil {
			return err
		}
		found, err := netlinksafe.AddrList(link, netlink.FAMILY_ALL)
		for _, a := range found {
			addresses = append(addresses, a.IPNet.String())
		}
		return err
	})
	return addresses
}

// record writes a Record and returns the number of records of the verb.
func (o *Orders) record(r Record) (int, error) {
	if o.Log == "" {
		return 1, nil
	}
	if err := os.MkdirAll(o.Log, 0o755); err != nil {
		return 0, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	// Names sort by time; two processes may have the same time.
	name := fmt.Sprintf("%020d-%s-%d.json", time.Now().UnixNano(), r.Verb, os.Getpid())
	// Others read the log at any time, and must not find a half of a record.
	hidden := filepath.Join(o.Log, fmt.Sprintf(".%d", os.Getpid()))
	if err := os.WriteFile(hidden, text, 0o644); err != nil {
		return 0, err
	}
	if err := os.Rename(hidden, filepath.Join(o.Log, name)); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(o.Log)
	n := 0
	for _, e := range entries {
		if strings.Contains(e.Name(), "-"+r.Verb+"-") {
			n++
		}
	}
	return n, err
}

// handOn calls the plugin that the stub replaces.
func (c *config) handOn(plugin, verb string, o *Orders) (string, error) {
	if plugin == Chained {
		if verb != "ADD" {
			return "", nil
		}
		text, err := json.Marshal(c.whole["prevResult"])
		return string(text), err
	}
	if o.Delegate == nil {
		if verb != "ADD" {
			return "", nil
		}
		return render(&current.Result{CNIVersion: current.ImplementedSpecVersion}, c.CNIVersion)
	}
	c.whole["ipam"] = o.Delegate
	stdin, err := json.Marshal(c.whole)
	if err != nil {
		return "", err
	}
	name, _ := o.Delegate["type"].(string)
	ctx := context.Background()
	switch verb {
	case "ADD":
		result, err := invoke.DelegateAdd(ctx, name, stdin, nil)
		if err != nil {
			return "", err
		}
		return render(result, c.CNIVersion)
	case "DEL":
		return "", invoke.DelegateDel(ctx, name, stdin, nil)
	case "CHECK":
		return "", invoke.DelegateCheck(ctx, name, stdin, nil)
	case "GC":
		return "", invoke.DelegateGC(ctx, name, stdin, nil)
	case "STATUS":
		return "", invoke.DelegateStatus(ctx, name, stdin, nil)
	}
	return "", fmt.Errorf("CNI_COMMAND %q", verb)
}

func render(result types.Result, cniVersion string) (string, error) {
	if cniVersion == "" {
		cniVersion = "0.1.0"
	}
	converted, err := result.GetAsVersion(cniVersion)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(converted)
	if err != nil {
		return "", err
	}
	if _, err := create.Create(cniVersion, text); err != nil {
		return "", err
	}
	return string(text), nil
}

// Records returns the calls that stubs logged in a directory, in the order of time; none if the directory does not
// exist.
func Records(dir string) ([]Record, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(sequence(a), sequence(b)) })
	var records []Record
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // somebody is writing it
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		var r Record
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

func sequence(e fs.DirEntry) string {
	at, _, _ := strings.Cut(e.Name(), "-")
	if _, err := strconv.ParseUint(at, 10, 64); err != nil {
		return e.Name()
	}
	return at
}
