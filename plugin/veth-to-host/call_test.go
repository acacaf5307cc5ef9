package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// conf is a configuration of the plugin with changes; a nil value leaves a key out.
func conf(changes ...map[string]any) string {
	c := map[string]any{"cniVersion": "1.1.0", "name": "cni0", "type": pluginName, "hostInterface": uplink, "containerInterface": "veth0", "ipMasq": true}
	for _, change := range changes {
		for key, value := range change {
			if c[key] = value; value == nil {
				delete(c, key)
			}
		}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		panic(err) // a mistake in a test's table
	}
	return string(raw)
}

// call is one execution of the plugin.
type call struct {
	command, id, netns, ifName, stdin string
}

func (c call) cmd() *exec.Cmd {
	dir := os.Getenv(inNamespaces)
	cmd := exec.Command(filepath.Join(dir, pluginName))
	if c.ifName == "" {
		c.ifName = "eth0"
	}
	cmd.Env = []string{"CNI_COMMAND=" + c.command, "CNI_IFNAME=" + c.ifName, "CNI_PATH=" + dir}
	if c.id != "" {
		cmd.Env = append(cmd.Env, "CNI_CONTAINERID="+c.id)
	}
	if c.netns != "" {
		cmd.Env = append(cmd.Env, "CNI_NETNS="+c.netns)
	}
	cmd.Stdin = strings.NewReader(c.stdin)
	return cmd
}

type cniError struct {
	Code uint
	Msg  string
}

func (e *cniError) String() string {
	if e == nil {
		return "success"
	}
	return fmt.Sprintf("%d: %s", e.Code, e.Msg)
}

// start starts the plugin on the node. Its process belongs to the node's namespaces; waiting for it needs no thread.
func (n *labNode) start(cmd *exec.Cmd) error { return n.do(cmd.Start) }

// run executes the plugin on the node and returns its standard output, and the error object that it may be. Whatever is no
// single JSON document fails the test.
func (n *labNode) run(t *testing.T, c call) (string, *cniError) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := c.cmd()
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := n.start(cmd); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	out := stdout.String()
	if out != "" && !json.Valid(stdout.Bytes()) {
		t.Fatalf("%s: want one JSON document on standard output, got %s", c.command, out)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return out, nil
	}
	var e cniError
	if err := json.Unmarshal(stdout.Bytes(), &e); err != nil {
		t.Fatalf("%s: want an error object, got %q: %v\n%s", c.command, out, err, stderr.String())
	}
	return out, &e
}

func (p *pod) call(command string, changes ...map[string]any) call {
	changes = append([]map[string]any{{"prevResult": p.prev()}}, changes...)
	return call{command: command, id: p.id, netns: p.ns.Path(), stdin: conf(changes...)}
}

func (n *labNode) add(t *testing.T, p *pod, changes ...map[string]any) *cniError {
	t.Helper()
	_, err := n.run(t, p.call("ADD", changes...))
	return err
}

func (n *labNode) mustAdd(t *testing.T, p *pod, changes ...map[string]any) {
	t.Helper()
	if err := n.add(t, p, changes...); err != nil {
		t.Fatal(err)
	}
}

func (n *labNode) mustDel(t *testing.T, c call) {
	t.Helper()
	c.command = "DEL"
	if out, err := n.run(t, c); err != nil || out != "" {
		t.Fatalf("DEL %s: %s%v", c.id, out, err)
	}
}

func (n *labNode) gc(t *testing.T, changes map[string]any, valid ...*pod) *cniError {
	t.Helper()
	attachments := []any{}
	for _, p := range valid {
		attachments = append(attachments, map[string]any{"containerID": p.id, "ifname": "eth0"})
	}
	out, err := n.run(t, call{command: "GC", stdin: conf(map[string]any{"cni.dev/valid-attachments": attachments}, changes)})
	if err == nil && out != "" {
		t.Fatalf("GC: want no output, got %s", out)
	}
	return err
}
