package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/backend/ssh"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// state returns the state of a machine, as seen from outside, with its own processes and files but without the keeper's
// directory.
func (m *machines) state() []snapshot.State {
	m.t.Helper()
	var states []snapshot.State
	for _, node := range m.lab.Nodes() {
		state, err := node.Agent.Snapshot(context.Background(), agent.SnapshotArgs{})
		if err != nil {
			m.t.Fatal(err)
		}
		states = append(states, state)
	}
	return states
}

// unchanged waits until the machines are as before, except for the keeper's files.
func (m *machines) unchanged(before []snapshot.State) {
	m.t.Helper()
	eventually(m.t, func(context.Context) error {
		for i, now := range m.state() {
			var left []string
			for _, c := range snapshot.Diff(before[i], now) {
				if !strings.Contains(c.Item.Name, "/root/.cache") {
					left = append(left, c.String())
				}
			}
			if len(left) > 0 {
				return fmt.Errorf("node%d: %s", i+1, strings.Join(left, "\n"))
			}
		}
		return nil
	})
}

// attach makes a pod on a node and returns its address.
func attach(t *testing.T, node *cluster.Node, name string) (netns, address string) {
	t.Helper()
	path, err := node.Agent.CreateNamespace(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := node.Agent.CNI(t.Context(), cni.Request{
		Verb: cni.Add, Conflist: node.Conflist, BinDirs: node.BinDirs, ContainerID: name, Netns: path, IfName: "eth0",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Outcome.Err(); err != nil {
		t.Fatal(err)
	}
	links, err := node.Agent.Links(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if link.Name == "eth0" && len(link.Addresses) > 0 {
			return path, netip.MustParsePrefix(link.Addresses[0]).Addr().String()
		}
	}
	t.Fatalf("pod %s has no address on eth0: %v", name, links)
	return "", ""
}

// spoil makes the changes in a machine's network that a plugin can make, and takes the node's uplink away.
func spoil(t *testing.T, node *cluster.Node) {
	t.Helper()
	ctx := t.Context()
	for _, err := range []error{
		node.Agent.AddBridge(ctx, agent.ObstacleArgs{Name: "left"}),
		node.Agent.AddAddress(ctx, agent.AddressArgs{
			Interface: "left", Address: netip.MustParsePrefix("10.99.0.1/24"),
		}),
		node.Agent.SetSysctls(ctx, "", map[string]string{"net.ipv4.conf.all.arp_announce": "2"}),
		node.Agent.DropForwarded(ctx, agent.ForwardArgs{}),
		node.Agent.SetLink(ctx, agent.SetLinkArgs{Name: node.Uplink}),
		node.Agent.RenameLink(ctx, agent.RenameLinkArgs{Name: node.Uplink, NewName: "elsewhere"}),
		node.Agent.WriteFile(ctx, agent.File{Path: "/etc/left", Mode: 0o644}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpen(t *testing.T) {
	m := newMachines(t)
	dir := binDir(t, "macvlan", "host-local")
	for name, text := range map[string]string{
		"id": "echo 1000", "sudo": "echo sudo: a password is required >&2; exit 1",
	} {
		script := agent.File{Path: "/root/fake/" + name, Mode: 0o755, Data: []byte("#!/bin/sh\n" + text + "\n")}
		if err := m.lab.Nodes()[0].Agent.WriteFile(t.Context(), script); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name    string
		edit    func(*ssh.Options)
		wantErr string
	}{
		{"two machines", func(*ssh.Options) {}, ""},
		{"a login shell that says something", func(o *ssh.Options) { o.Program = m.ssh("echo Welcome;") }, ""},
		{
			"a machine that is not there", func(o *ssh.Options) { o.Nodes[1] = "node3" },
			"node3: ssh ended before the machine answered: node3: no such machine",
		},
		{
			"no ssh", func(o *ssh.Options) { o.Program = []string{"/nonexistent/ssh"} },
			"node1: fork/exec /nonexistent/ssh: no such file or directory",
		},
		{
			"no sudo without a password", func(o *ssh.Options) {
				o.Program = m.ssh("PATH=/root/fake:$PATH;")
			},
			"node1: the connection is lost: sudo: a password is required; the user needs sudo without a password there (sudoers(5), NOPASSWD), or log in as root",
		},
		{
			"a subnet that no machine has", func(o *ssh.Options) {
				o.Subnet, o.Conflist = netip.Prefix{}, parse(t, strings.ReplaceAll(testConflist, "10.77.", "10.78."))
			},
			"node1: no interface has an address in 10.78.0.0/16 (--uplink-subnet); it has mgmt0 10.0.2.10/24, ens6 10.77.0.2/16",
		},
		{
			"an interface that is not there", func(o *ssh.Options) { o.Uplink = "eth9" },
			"node1: no interface eth9 has an address in 10.77.0.0/16 (--uplink-subnet); it has mgmt0 10.0.2.10/24, ens6 10.77.0.2/16",
		},
		{
			"ranges outside of the subnet", func(o *ssh.Options) {
				o.Conflist = parse(t, strings.ReplaceAll(testConflist, "10.77.", "10.78."))
			},
			"net.conflist:2: subnet 10.78.0.0/16 is not in the subnet that the caller gives, 10.77.0.0/16",
		},
		{
			"plugins for another machine", func(o *ssh.Options) {
				o.Binary = func(arch string) (string, error) { return "", errors.New("no build for it") }
			},
			"node1 is x86_64: no build for it",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options := m.options(dir)
			tt.edit(&options)
			if tt.wantErr != "" && !strings.Contains(tt.wantErr, "node3") {
				options.Nodes = options.Nodes[:1]
			}
			before := m.state()
			b, err := ssh.Open(t.Context(), options)
			got := ""
			if err != nil {
				got = err.Error()
			} else if err := b.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if got != tt.wantErr {
				t.Errorf("got %s\nwant %s", got, tt.wantErr)
			}
			m.unchanged(before)
		})
	}
}

// TestStart attaches pods on two machines, and afterwards the machines are as before.
func TestStart(t *testing.T) {
	m := newMachines(t)
	options := m.options(binDir(t, "macvlan", "host-local", "bridge"))
	var log []string
	options.Nodes, options.Log = []string{"node1"}, func(text string) { log = append(log, text) }
	before := m.state()
	b := open(t, options)
	one := request(options)
	one.Nodes = one.Nodes[:1]
	c, err := b.Start(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if len(log) != 2 || !strings.HasPrefix(log[0], "node1: copying cnitest, ") || log[1] != "node1: copying 2 plugins" {
		t.Errorf("got %q, want the copying of cnitest and of the two plugins that the conflist names", log)
	}

	// Files that the machine has are not sent again.
	log, options.Nodes = nil, []string{"node1"}
	b = open(t, options)
	if c, err = b.Start(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), b.Close()); err != nil || log != nil {
		t.Errorf("got %v, %q, want nothing to be copied", err, log)
	}

	options = m.options(options.BinDir)
	b = open(t, options)
	if c, err = b.Start(t.Context(), request(options)); err != nil {
		t.Fatal(err)
	}
	node, other := c.Nodes()[0], c.Nodes()[1]
	if want := []netip.Addr{netip.MustParseAddr("10.77.0.2")}; node.Uplink != "ens6" ||
		!cmp.Equal(node.Interfaces["uplink"], want, cmp.Comparer(sameAddr)) {
		t.Errorf("got uplink %s with %v, want ens6 with %v", node.Uplink, node.Interfaces["uplink"], want)
	}
	if !strings.Contains(string(node.Conflist), `"master": "ens6"`) {
		t.Errorf("the conflist does not name the uplink: %s", node.Conflist)
	}
	crosses(t, node, other)
	spoil(t, node)
	if err := errors.Join(c.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	m.unchanged(before)
	if _, err := b.Start(t.Context(), request(options)); err == nil {
		t.Error("a cluster after Close: got none, want an error")
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }

// TestStartAgain checks that a second cluster finds nothing of the first, which is still open.
func TestStartAgain(t *testing.T) {
	m := newMachines(t)
	options := m.options(binDir(t, "macvlan", "host-local"))
	b := open(t, options)
	first, err := b.Start(t.Context(), request(options))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := first.Nodes()[0].Agent.Snapshot(t.Context(), agent.SnapshotArgs{})
	if err != nil {
		t.Fatal(err)
	}
	spoil(t, first.Nodes()[0])
	second, err := b.Start(t.Context(), request(options))
	if err != nil {
		t.Fatal(err)
	}
	now, err := second.Nodes()[0].Agent.Snapshot(t.Context(), agent.SnapshotArgs{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := snapshot.Diff(fresh, now); len(diff) > 0 {
		t.Errorf("got %v, want a node as the first cluster found it", diff)
	}
	if err := errors.Join(first.Close(), second.Close()); err != nil {
		t.Error(err)
	}
}

func TestMissing(t *testing.T) {
	m := newMachines(t)
	options := m.options(binDir(t))
	plain := open(t, options)
	for _, tt := range []struct {
		name  string
		needs scenario.Needs
		want  string
	}{
		{"what two machines have", scenario.Needs{
			Nodes: 2, SecondNIC: true, Services: true, LocalAddresses: true,
			Redirect: true, Capture: true, Daemon: true,
		}, ""},
		{"three nodes", scenario.Needs{Nodes: 3}, "it needs 3 nodes, and --nodes names 2"},
		{"hosts", scenario.Needs{Nodes: 1, Hosts: []string{"lan", "router"}}, "it uses host/lan, host/router, and " +
			"all machines that ssh reaches are nodes; name another one with --outside"},
		{"routed pods", scenario.Needs{Nodes: 1, Routed: true}, "it has pods of a routed network, to which the " +
			"router of the machines' LAN has no route; name a machine that plays the router with --outside"},
		{"a cloud", scenario.Needs{Nodes: 1, Cloud: true}, "no cloud gives these machines further network interfaces and addresses during a run"},
		{"a reboot", scenario.Needs{Nodes: 1, Reboot: true}, "it reboots a node; allow that with --reboot 'systemctl reboot'"},
		{
			"settings",
			scenario.Needs{Nodes: 1, Sysctls: []string{"net.ipv4.conf.all.rp_filter"}},
			"it changes settings that can make a machine unreachable (net.ipv4.conf.all.rp_filter); allow that with --reboot 'systemctl reboot'",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := plain.Missing(t.Context(), tt.needs); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}
	options.Reboot = []string{"reboot"}
	if err := open(t, options).Missing(t.Context(), scenario.Needs{
		Reboot: true, Sysctls: []string{"net.ipv4.ip_forward"},
	}); err != nil {
		t.Errorf("with --reboot: got %v, want nothing to be missing", err)
	}
}

// TestPrograms checks that the keeper's directory contains no more than the last run needed.
func TestPrograms(t *testing.T) {
	m := newMachines(t)
	dir := binDir(t, "macvlan", "host-local")
	node := m.lab.Nodes()[0]
	for _, extra := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(dir, "own"), []byte("#!/bin/sh\necho "+extra+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		options := m.options(dir)
		options.Nodes = []string{"node1"}
		b := open(t, options)
		req := request(options)
		req.Nodes = req.Nodes[:1]
		c, err := b.Start(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		names, err := c.Nodes()[0].Agent.ListDir(t.Context(), netns.BinDir)
		if err != nil || !cmp.Equal(names, []string{"host-local", "macvlan", "own"}) {
			t.Errorf("got %q, %v, want all programs", names, err)
		}
		reply, err := c.Nodes()[0].Agent.Command(t.Context(), agent.CommandArgs{
			Argv: []string{"own"}, BinDirs: []string{netns.BinDir},
		})
		if err != nil || reply.Output != extra+"\n" {
			t.Errorf("got %q, %v, want %q", reply.Output, err, extra)
		}
		if err := errors.Join(c.Close(), b.Close()); err != nil {
			t.Error(err)
		}
		for dir, want := range map[string]int{"/root/.cache/cnitest/files": 3, "/root/.cache/cnitest/self": 1} {
			if names, err := node.Agent.ListDir(t.Context(), dir); err != nil || len(names) != want {
				t.Errorf("%s: got %q, %v, want %d files", dir, names, err, want)
			}
		}
	}
}
