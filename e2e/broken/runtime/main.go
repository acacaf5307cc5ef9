// Command runtime is a runtime that is BROKEN ON PURPOSE: a negative control on which `make test` runs package duty.
// Never use it.
//
// It has the command line and the variables of cnitool, and is complete: it keeps results and attachments, and keeps
// apart what must not run at once. It has the one fault that the variable CNITEST_FAULT names; without one it meets
// every duty. faults in ../../duty/broken_test.go has all faults with the duties that they break.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// stateDir keeps attachments, lockDir the locks.
const (
	stateDir = "/var/lib/broken-runtime"
	lockDir  = "/run/broken-runtime"
)

// fault reports whether the program has a fault.
func fault(name string) bool { return os.Getenv("CNITEST_FAULT") == name }

// attachment is what the runtime keeps of an attachment.
type attachment struct {
	ContainerID  string         `json:"containerID"`
	IfName       string         `json:"ifname"`
	Netns        string         `json:"netns"`
	Args         string         `json:"args"`
	Capabilities map[string]any `json:"capabilities"`
	// Result is the final result of ADD; nil after an ADD that failed.
	Result any `json:"result"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		fmt.Println("usage: runtime add|del|check|gc|status NETWORK NETNS")
		return nil
	}
	verb := strings.ToUpper(args[0])
	net, err := load(os.Getenv("NETCONFPATH"), args[1])
	if err != nil {
		return err
	}
	if verb == "GC" || verb == "STATUS" {
		return net.whole(verb)
	}
	a := &attachment{
		ContainerID: "c-" + filepath.Base(args[2]), IfName: os.Getenv("CNI_IFNAME"), Netns: args[2],
		Args: os.Getenv("CNI_ARGS"),
	}
	if text := os.Getenv("CAP_ARGS"); text != "" {
		if err := decode([]byte(text), &a.Capabilities); err != nil {
			return err
		}
	}
	if fault("same-id") {
		a.ContainerID = "c"
	}
	if fault("bad-id") {
		a.ContainerID = "-" + a.ContainerID
	}
	if !fault("parallel") {
		defer lock(unix.LOCK_EX, "container", a.ContainerID)()
	}
	if !fault("parallel-gc") {
		defer lock(unix.LOCK_SH, "network", net.name)()
	}
	return net.attachmentVerb(verb, a)
}

// lock takes a lock, and returns a function that releases it.
func lock(how int, words ...string) (release func()) {
	name := strings.NewReplacer("/", "_").Replace(strings.Join(words, "-"))
	_ = os.MkdirAll(lockDir, 0o755)
	file, err := os.Create(filepath.Join(lockDir, name))
	if err == nil {
		err = unix.Flock(int(file.Fd()), how)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lock:", err)
		os.Exit(1)
	}
	return func() { _ = file.Close() }
}

// attachmentVerb carries out ADD, CHECK or DEL.
func (n *network) attachmentVerb(verb string, a *attachment) error {
	known, err := n.recall(a)
	if err != nil {
		return err
	}
	switch verb {
	case "ADD":
		if known != nil && !fault("adds-twice") {
			return errors.New("it is attached")
		}
		return n.add(a)
	case "CHECK":
		return n.check(a, known)
	case "DEL":
		if known == nil {
			// Nothing is known of it; a further DEL does no harm.
			known = a
		}
		return n.del(known)
	}
	return fmt.Errorf("verb %q: want add, del, check, gc or status", verb)
}

func (n *network) add(a *attachment) error {
	before, _ := n.recall(a)
	var results []any
	for i, p := range n.plugins {
		var previous any
		if len(results) > 0 {
			previous = results[len(results)-1]
			if fault("skips-a-result") {
				previous = results[0]
			}
		} else if fault("previous-of-first") {
			previous = map[string]any{"cniVersion": n.version}
		}
		text, err := n.call("ADD", p, a, previous)
		if err != nil && fault("goes-on") {
			continue
		}
		if err != nil && fault("fails-silently") {
			return n.store(a)
		}
		if err != nil && fault("hides-errors") {
			return errors.New("something went wrong")
		}
		if err != nil {
			// DEL must come, and has no result then.
			return errors.Join(err, n.store(a))
		}
		var result any
		if err := decode([]byte(text), &result); err != nil {
			return fmt.Errorf("plugin %d: result %q: %w", i, text, err)
		}
		results = append(results, result)
	}
	if len(results) > 0 && !fault("forgets") {
		a.Result = results[len(results)-1]
	}
	if fault("first-result") {
		a.Result = results[0]
	}
	if fault("stale-result") && before == nil {
		_ = os.MkdirAll(n.dir(), 0o700)
		if old, err := os.ReadFile(n.path(a) + ".old"); err == nil {
			_ = decode(old, a)
		}
		text, _ := json.Marshal(a)
		_ = os.WriteFile(n.path(a)+".old", text, 0o600)
	}
	return n.store(a)
}

func (n *network) check(a, known *attachment) error {
	if n.disableCheck && fault("refuses-disabled") {
		return errors.New("CHECK is disabled")
	}
	if n.disableCheck && !fault("checks-disabled") {
		return nil
	}
	if !n.has("0.4.0") && !fault("old-verbs") {
		return fmt.Errorf("version %s has no CHECK", n.version)
	}
	if known == nil {
		if !fault("checks-anything") {
			return errors.New("it is not attached")
		}
		known = a
	}
	if fault("checks-otherwise") {
		known.Args = "K8S_POD_NAME=other"
	}
	for _, p := range n.plugins {
		if _, err := n.call("CHECK", p, known, known.Result); err != nil {
			return err
		}
	}
	return nil
}

func (n *network) del(a *attachment) error {
	if a.Result == nil && fault("skips-failed") {
		return n.forget(a)
	}
	if fault("gc-for-del") {
		return errors.Join(n.forget(a), n.collect())
	}
	result := a.Result
	if !n.has("0.4.0") && !fault("old-result") {
		result = nil
	}
	if fault("del-without-result") {
		result = nil
	}
	order := reversed(n.plugins)
	if fault("forward-del") {
		order = n.plugins
	}
	for _, p := range order {
		if _, err := n.call("DEL", p, a, result); err != nil {
			// As containerd takes it.
			if fault("not-found-is-gone") && strings.Contains(err.Error(), "not found") {
				return n.forget(a)
			}
			return err
		}
	}
	// As containerd does when a sandbox that was stopped is removed.
	for i := 0; i < len(order) && fault("dels-again"); i++ {
		again := *a
		again.Netns = ""
		if _, err := n.call("DEL", order[i], &again, nil); err != nil {
			return err
		}
	}
	return n.forget(a)
}

// whole carries out GC or STATUS.
func (n *network) whole(verb string) error {
	if !n.has("1.1.0") && !fault("old-verbs") {
		return nil
	}
	if verb == "STATUS" {
		for _, p := range n.plugins {
			if _, err := n.call(verb, p, nil, nil); err != nil {
				return err
			}
		}
		return nil
	}
	if n.disableGC && !fault("collects-disabled") {
		return nil
	}
	if !fault("parallel-gc") {
		defer lock(unix.LOCK_EX, "network", n.name)()
	}
	return n.collect()
}

func (n *network) collect() error {
	var errs []error
	for _, p := range n.plugins {
		_, err := n.call("GC", p, nil, nil)
		errs = append(errs, err)
		if err != nil && fault("gc-halts") {
			return err
		}
	}
	if fault("gc-first-error") {
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
	}
	return errors.Join(errs...)
}

var notInFiles = regexp.MustCompile(`[^a-zA-Z0-9_.\-]`)

func (n *network) dir() string {
	return filepath.Join(stateDir, notInFiles.ReplaceAllString(n.name, "_"))
}

func (n *network) path(a *attachment) string {
	return filepath.Join(n.dir(), a.ContainerID+"."+a.IfName+".json")
}

func (n *network) store(a *attachment) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(n.dir(), 0o700), os.WriteFile(n.path(a), text, 0o600))
}

func (n *network) forget(a *attachment) error {
	if err := os.Remove(n.path(a)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// recall returns what is kept of an attachment; nil if there is none.
func (n *network) recall(a *attachment) (*attachment, error) {
	text, err := os.ReadFile(n.path(a))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	known := &attachment{}
	err = errors.Join(err, decode(text, known))
	if err != nil && !fault("trusts-its-files") {
		return nil, nil // as after a power cut; whoever asks knows which pod it is about
	}
	return known, err
}

// attachments returns all that are kept.
func (n *network) attachments() []*attachment {
	files, _ := filepath.Glob(filepath.Join(n.dir(), "*.json"))
	list := []*attachment{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		a := &attachment{}
		if err == nil && decode(text, a) == nil {
			list = append(list, a)
		}
	}
	return list
}
