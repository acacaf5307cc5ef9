// Command runc-nocgroup is runc for nodes that have no control groups of their own. A container gets neither a group
// nor limits, so that nothing of it is left on the machine whatever ends the node.
//
// It runs the runc beside itself. Its command line is that of runc.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "runc-nocgroup: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if bundle := bundleOf(args); bundle != "" {
		wait()
		if err := withoutGroup(filepath.Join(bundle, "config.json")); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	runc := filepath.Join(filepath.Dir(self), "runc")
	if at := slices.Index(args, "ps"); at >= 0 {
		return processes(runc, args[:at], args[len(args)-1])
	}
	// runc goes on without a group only in this mode, and only if the container asks for none.
	return syscall.Exec(runc, append([]string{runc, "--rootless=true"}, args...), os.Environ())
}

// processes prints the processes of a container as `runc ps` does: its first one, since runc finds them by their group.
// A containerd 1.7 that starts again takes the shims of containers without processes for lost.
func processes(runc string, flags []string, container string) error {
	cmd := exec.CommandContext(context.Background(), runc, append(slices.Clone(flags), "state", container)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("runc state %s: %w", container, err)
	}
	var state struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(out, &state); err != nil {
		return fmt.Errorf("runc state %s: %w", container, err)
	}
	found := []int{}
	if state.PID != 0 {
		found = append(found, state.PID)
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// holdFile keeps containers from starting while it exists, and heldFile says that one waits. Scenarios use that to end
// containerd between its calls of the plugins and the start of the sandbox.
const (
	holdFile = "/run/containerd/cnitest-hold-sandboxes"
	heldFile = "/run/containerd/cnitest-sandbox-held"
)

// wait waits while there is a holdFile.
func wait() {
	for {
		if _, err := os.Stat(holdFile); err != nil {
			return
		}
		_ = os.WriteFile(heldFile, nil, 0o644)
		time.Sleep(5 * time.Millisecond)
	}
}

// bundleOf returns the directory of a container that is to be created; empty for other commands.
func bundleOf(args []string) string {
	if !slices.Contains(args, "create") {
		return ""
	}
	for i, arg := range args[:len(args)-1] {
		if arg == "--bundle" {
			return args[i+1]
		}
	}
	return ""
}

// withoutGroup removes what a configuration of a container says about its group.
func withoutGroup(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var linux map[string]json.RawMessage
	if err := json.Unmarshal(config["linux"], &linux); err != nil {
		return fmt.Errorf("%s: linux: %w", path, err)
	}
	delete(linux, "cgroupsPath")
	delete(linux, "resources")
	if config["linux"], err = json.Marshal(linux); err != nil {
		return err
	}
	if data, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
