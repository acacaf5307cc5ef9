package main

import (
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// conf returns a configuration of the plugin with changes; a nil value leaves a key out.
func conf(changes ...map[string]any) string {
	c := map[string]any{
		"cniVersion": "1.1.0", "name": "cni0", "type": pluginName, "hostInterface": uplink,
		"containerInterface": "veth0", "ipMasq": true,
	}
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

type (
	call     = plugintest.Call
	cniError = plugintest.Error
)

// start starts the plugin on the node. The process belongs to the node's namespaces; any thread can wait for it.
func (n *labNode) start(cmd *exec.Cmd) error { return n.do(cmd.Start) }

// run executes the plugin on the node.
func (n *labNode) run(t *testing.T, c call) (string, *cniError) {
	t.Helper()
	return c.Run(t, pluginName, n.start)
}

func (p *pod) call(command string, changes ...map[string]any) call {
	prev := p.prev()
	if command == "CHECK" {
		prev = withLink(p, prev, defaultContainerInterface)
	}
	changes = append([]map[string]any{{"prevResult": prev}}, changes...)
	return call{Command: command, ID: p.id, Netns: p.ns.Path(), Stdin: conf(changes...)}
}

// withLink returns a prevResult with a link of the pod, as ADD adds one.
func withLink(p *pod, prev map[string]any, name string) map[string]any {
	interfaces, _ := prev["interfaces"].([]any)
	prev["interfaces"] = append(interfaces, map[string]any{"name": name, "sandbox": p.ns.Path()})
	return prev
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
	c.Command = "DEL"
	if out, err := n.run(t, c); err != nil || out != "" {
		t.Fatalf("DEL %s: %s%v", c.ID, out, err)
	}
}

func (n *labNode) gc(t *testing.T, changes map[string]any, valid ...*pod) *cniError {
	t.Helper()
	attachments := []any{}
	for _, p := range valid {
		attachments = append(attachments, map[string]any{"containerID": p.id, "ifname": "eth0"})
	}
	out, err := n.run(t, call{
		Command: "GC", Stdin: conf(map[string]any{"cni.dev/valid-attachments": attachments}, changes),
	})
	if err == nil && out != "" {
		t.Fatalf("GC: want no output, got %s", out)
	}
	return err
}
