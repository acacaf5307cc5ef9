package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netns"
)

func reversed(plugins []map[string]any) []map[string]any {
	list := slices.Clone(plugins)
	slices.Reverse(list)
	return list
}

// call runs a plugin, and returns what it prints. a is nil for a verb of the whole network.
func (n *network) call(verb string, plugin map[string]any, a *attachment, previous any) (string, error) {
	kind, _ := plugin["type"].(string)
	program := ""
	for _, dir := range filepath.SplitList(os.Getenv("CNI_PATH")) {
		if _, err := os.Stat(filepath.Join(dir, kind)); err == nil {
			program = filepath.Join(dir, kind)
		}
	}
	if program == "" && fault("ignores-missing") {
		text, err := json.Marshal(previous)
		return string(text), err
	}
	if program == "" {
		return "", fmt.Errorf("no plugin %s in CNI_PATH", kind)
	}
	config, err := json.Marshal(n.derive(verb, plugin, a, previous))
	if err != nil {
		return "", err
	}
	cmd := exec.Command(program)
	cmd.Env, cmd.Stderr = environment(verb, a), os.Stderr
	if verb != "GC" || !fault("no-input") {
		cmd.Stdin = bytes.NewReader(config)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if a != nil && fault("in-sandbox") {
		// The thread stays there, and starts the plugin.
		runtime.LockOSThread()
		sandbox, err := netns.GetFromPath(a.Netns)
		if err = errors.Join(err, netns.Set(sandbox)); err != nil {
			return "", err
		}
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s of %s: %w: %s", verb, kind, err, out.String())
	}
	return out.String(), nil
}

// environment returns the variables of a call.
func environment(verb string, a *attachment) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + verb}
	if !fault("no-path") && (verb != "GC" || !fault("gc-without-path")) {
		env = append(env, "CNI_PATH="+os.Getenv("CNI_PATH"))
	}
	if a == nil {
		if verb == "GC" && fault("gc-of-container") {
			env = append(env, "CNI_CONTAINERID=c")
		}
		if verb == "STATUS" && fault("status-of-interface") {
			env = append(env, "CNI_IFNAME=eth0")
		}
		return env
	}
	sandbox, ifName := a.Netns, a.IfName
	switch {
	case fault("no-sandbox"):
		sandbox = "/run/netns/none"
	case fault("own-sandbox"):
		sandbox = "/proc/self/ns/net"
	case fault("other-sandbox") && verb == "DEL":
		sandbox = "/run/netns/other"
	case fault("other-interface"):
		ifName = "eth0"
	}
	env = append(env, "CNI_CONTAINERID="+a.ContainerID, "CNI_NETNS="+sandbox)
	if verb != "DEL" || !fault("no-interface") {
		env = append(env, "CNI_IFNAME="+ifName)
	}
	if a.Args != "" && !(fault("no-args") && strings.HasPrefix(verb, "D")) {
		env = append(env, "CNI_ARGS="+a.Args)
	}
	return env
}
