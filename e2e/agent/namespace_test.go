package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

func TestCreateNamespace(t *testing.T) {
	c := start(t)
	path := namespace(t, c, "pod")
	if want := "/var/run/netns/pod"; path != want {
		t.Errorf("got %s, want %s", path, want)
	}
	links, err := c.Links(ctx(t), path)
	check(t, err)
	want := []agent.Link{
		{Name: "lo", Kind: "device", Index: 1, MTU: 65536, Up: true, Addresses: []string{"127.0.0.1/8", "::1/128"}},
	}
	if diff := cmp.Diff(want, links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	_, err = c.CreateNamespace(ctx(t), "pod")
	wantError(t, err, "node/a: namespace /var/run/netns/pod: open /run/netns/pod: file exists")
	// The existing namespace still exists.
	_, err = c.Links(ctx(t), path)
	check(t, err)
}

func TestCreateNamespace_has_the_nodes_settings(t *testing.T) {
	c := start(t)
	for round, value := range []string{"1", "2", "0"} {
		check(t, c.SetSysctls(ctx(t), "", map[string]string{
			"net.ipv4.ip_forward":         map[string]string{"0": "0", "1": "1", "2": "1"}[value],
			"net.ipv4.conf.all.rp_filter": value, "net.ipv4.conf.default.arp_ignore": value,
			"net.ipv4.conf.all.accept_redirects": "1",
		}))
		path := namespace(t, c, fmt.Sprintf("pod-%d", round))
		state, err := c.Snapshot(ctx(t), agent.SnapshotArgs{
			Kinds: []string{snapshot.Sysctl}, Namespaces: map[string]string{"pod": path},
		})
		check(t, err)
		node, pod := map[string]string{}, map[string]string{}
		for _, item := range state.Items {
			if item.Kind != snapshot.Sysctl || !strings.HasPrefix(item.Name, "net.ipv4.conf.all.") &&
				!strings.HasPrefix(item.Name, "net.ipv4.conf.default.") &&
				item.Name != "net.ipv4.ip_forward" {
				continue
			}
			if item.Scope == "" {
				node[item.Name] = item.Text
			} else {
				pod[item.Name] = item.Text
			}
		}
		if diff := cmp.Diff(node, pod); diff != "" || len(node) < 40 || node["net.ipv4.conf.all.rp_filter"] != value {
			t.Errorf("%d settings (-node +pod):\n%s", len(node), diff)
		}
	}
}

// The kernel ends the links of a namespace some time after the namespace: a parent keeps the MAC of a macvlan until
// then.
func TestRemoveNamespace_ends_its_links(t *testing.T) {
	c := start(t)
	check(t, c.AddLink(ctx(t), agent.AddLinkArgs{
		Netns: "/proc/self/ns/net", Name: "eno1", PeerNetns: namespace(t, c, "cable"), PeerName: "eth0",
	}))
	for i := range 20 {
		name := fmt.Sprintf("pod-%d", i)
		path := namespace(t, c, name)
		check(t, c.AddLink(ctx(t), agent.AddLinkArgs{Netns: path, Name: "eth0", Parent: "eno1"}))
		check(t, c.RemoveNamespace(ctx(t), name))
		state, err := c.Snapshot(ctx(t), agent.SnapshotArgs{Kinds: []string{snapshot.Forwarding}})
		check(t, err)
		for _, item := range state.Items {
			t.Errorf("round %d: got %s %s, want nothing", i, item.Name, item.Text)
		}
	}
}

// A namespace that was removed must be gone: no thread and no socket of the agent may hold it.
func TestRemoveNamespace(t *testing.T) {
	c := start(t)
	for i := range 50 {
		name := fmt.Sprintf("pod-%d", i)
		path, err := c.CreateNamespace(ctx(t), name)
		check(t, err)
		check(t, c.Listen(ctx(t), path, probe.ListenSpec{Protocol: probe.TCP, Port: 8080}))
		_, err = c.LinkKinds(ctx(t), []string{"bridge"})
		check(t, err)
		check(t, c.RemoveNamespace(ctx(t), name))
		check(t, c.RemoveNamespace(ctx(t), name))
	}
	own, err := os.Readlink("/proc/self/ns/net")
	check(t, err)
	eventually(t, func() error {
		tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
		for _, task := range tasks {
			if in, err := os.Readlink(task); err == nil && in != own {
				return fmt.Errorf("%s: want %s, got %s", task, own, in)
			}
		}
		return err
	})
	files, err := filepath.Glob("/proc/self/fd/*")
	check(t, err)
	for _, file := range files {
		if to, _ := os.Readlink(file); strings.HasPrefix(to, "net:[") && to != own {
			t.Errorf("want no namespace held open, got %s", to)
		}
	}
}

func TestSetSysctls(t *testing.T) {
	c := start(t)
	path := namespace(t, c, "pod")
	for _, tt := range []struct{ name, sysctl, value, want string }{
		{"name", "net.ipv4.ip_forward", "1", ""},
		{
			"dot in a name", "net.ipv4.conf.eno1/host.rp_filter", "1",
			"node/a: sysctl net.ipv4.conf.eno1/host.rp_filter=1: open /proc/sys/net/ipv4/conf/eno1.host/rp_filter: no such file or directory",
		},
		{"outside net", "kernel.hostname", "x", `node/a: sysctl "kernel.hostname": want a name below net`},
		{"net itself", "net", "x", `node/a: sysctl "net": want a name below net`},
		{"net and a dot", "net.", "x", `node/a: sysctl "net.": want a name below net`},
		{"up in words of files", "net.../../kernel.hostname", "x", `node/a: sysctl "net.../../kernel.hostname": want a name below net`},
		{"up in words of sysctl", "net.//.kernel.hostname", "x", `node/a: sysctl "net.//.kernel.hostname": want a name below net`},
		{"down and up", "net.ipv4.//.//.kernel.hostname", "x", `node/a: sysctl "net.ipv4.//.//.kernel.hostname": want a name below net`},
		{"absolute", "/etc/passwd", "x", `node/a: sysctl "/etc/passwd": want a name below net`},
		{"empty", "", "x", `node/a: sysctl "": want a name below net`},
		{"value", "net.ipv4.ip_forward", "yes", "node/a: sysctl net.ipv4.ip_forward=yes: write /proc/sys/net/ipv4/ip_forward: invalid argument"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, c.SetSysctls(ctx(t), path, map[string]string{tt.sysctl: tt.value}), tt.want)
		})
	}
}

// Switching forwarding on resets accept_redirects: the caller's value wins, whatever the order of a map.
func TestSetSysctls_forwarding_first(t *testing.T) {
	c := start(t)
	path := namespace(t, c, "pod")
	for range 20 {
		for _, forward := range []string{"0", "1"} {
			check(t, c.SetSysctls(ctx(t), path, map[string]string{
				"net.ipv4.conf.all.accept_redirects": forward, "net.ipv4.ip_forward": forward,
			}))
			reply, err := c.Command(ctx(t), agent.CommandArgs{
				Netns: path, Argv: []string{"/bin/cat", "/proc/self/net/../../sys/net/ipv4/conf/all/accept_redirects"},
			})
			check(t, err)
			if got, want := reply.Output, forward+"\n"; got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
}

func TestLinkKinds(t *testing.T) {
	c := start(t)
	before, err := c.Links(ctx(t), "")
	check(t, err)
	got, err := c.LinkKinds(ctx(t), []string{"veth", "bridge", "macvlan", "carrier-pigeon"})
	check(t, err)
	if diff := cmp.Diff([]string{"carrier-pigeon"}, got); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	after, err := c.Links(ctx(t), "")
	check(t, err)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("links (-before +after):\n%s", diff)
	}
}
