package main

import (
	"errors"
	"net"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// DEL removes everything, whatever is missing already or never existed.
func TestDel(t *testing.T) {
	record := "/run/cni/routed-eni/net/p/eth0"
	for _, tt := range []struct {
		name   string
		before func(l *lab, p *pod) error
		call   func(l *lab, p *pod, c *call)
	}{
		{name: "as usual"},
		{name: "without prevResult", call: func(l *lab, _ *pod, c *call) { c.Stdin = l.conf(nil) }},
		{name: "with a damaged prevResult", call: func(l *lab, _ *pod, c *call) { c.Stdin = l.conf(map[string]any{"prevResult": "x"}) }},
		{name: "without namespace", call: func(_ *lab, _ *pod, c *call) { c.Netns = "" }},
		{name: "with another vethPrefix", call: func(l *lab, _ *pod, c *call) { c.Stdin = l.conf(map[string]any{"vethPrefix": "x"}) }},
		{name: "with odd arguments", call: func(_ *lab, _ *pod, c *call) { c.Args = "ODD=x" }},
		{name: "after the namespace", call: func(l *lab, p *pod, c *call) {
			c.Netns = "/run/none"
		}, before: func(l *lab, p *pod) error { return l.removeLink(p.link()) }},
		{
			name: "without record", before: func(*lab, *pod) error { return os.Remove(record) },
			call: func(l *lab, _ *pod, c *call) { c.Stdin = l.conf(nil) },
		},
		{
			name: "with an empty record", before: func(*lab, *pod) error { return os.WriteFile(record, nil, 0o644) },
			call: func(l *lab, _ *pod, c *call) { c.Stdin = l.conf(nil) },
		},
		{
			name: "without record and link", before: func(l *lab, p *pod) error {
				return errors.Join(os.Remove(record), l.removeLink(p.link()))
			},
			call: func(l *lab, _ *pod, c *call) { c.Netns = "" },
		},
		{
			name: "without record, link and prevResult", before: func(l *lab, p *pod) error {
				return errors.Join(os.Remove(record), l.removeLink(p.link()))
			},
			call: func(l *lab, _ *pod, c *call) { c.Stdin = l.conf(nil) },
		},
		{name: "without record, link and daemon", before: func(l *lab, p *pod) error {
			l.kill()
			return errors.Join(os.Remove(record), l.removeLink(p.link()))
		}},
		{name: "with another MAC of the node's end", before: func(l *lab, p *pod) error { return l.setMAC(p) }},
		{name: "with another MAC and without record", before: func(l *lab, p *pod) error { return errors.Join(l.setMAC(p), os.Remove(record)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.start()
			first, p := l.pod("first"), l.pod("p")
			l.mustAdd(first)
			bare := l.state()
			l.mustAdd(p) // on the second ENI, with both rules
			if tt.before != nil {
				if err := tt.before(l, p); err != nil {
					t.Fatal(err)
				}
			}
			c := call{Command: "DEL", ID: p.id, Netns: p.ns.Path(), Stdin: l.conf(p.prev())}
			if tt.call != nil {
				tt.call(l, p, &c)
			}
			for range 2 {
				wantError(t, l.silent(c), "")
				if diff := cmp.Diff(bare, l.state()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func (l *lab) setMAC(p *pod) error {
	var err error
	l.in(l.node, func() error {
		var link netlink.Link
		if link, err = netlink.LinkByName(p.link()); err == nil {
			err = netlink.LinkSetHardwareAddr(link, net.HardwareAddr{2, 1, 1, 1, 1, 1})
		}
		return nil
	})
	return err
}

// A link with the same name that somebody else made stays.
func TestDel_of_nothing(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.pod("p")
	if err := l.foreign(p.link()); err != nil {
		t.Fatal(err)
	}
	bare := l.state()
	wantError(t, l.silent(call{Command: "DEL", ID: p.id, Stdin: l.conf(nil)}), "")
	if diff := cmp.Diff(bare, l.state()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// D04: another pod keeps its address when the DEL of the address's earlier pod comes late, with its record or without.
func TestDel_late(t *testing.T) {
	one := enis()
	one[0].pods, one[1].pods = nil, one[1].pods[:1]
	l := newLab(t, one...)
	l.start()
	old, young := l.pod("old"), l.pod("young")
	for _, recorded := range []bool{true, false} {
		l.mustAdd(old)
		l.forget(old)
		l.mustAdd(young)
		if got := lines(stateOf(t, young.ns), "addr 10"); got != "addr 10.0.97.30/32 dev eth0\n" {
			t.Fatalf("got %s, want the address of the other", got)
		}
		wantError(t, l.check(old, nil), "999: address 10.0.97.30 belongs to a newer attachment")
		wantError(t, l.check(young, nil), "")
		if !recorded {
			l.mustDel(old)
		}
		l.mustDel(old)
		wantError(t, l.check(young, nil), "")
		wantError(t, l.gc(young), "")
		wantError(t, l.check(young, nil), "")
		l.mustDel(young)
		if got := lines(l.state(), "512:", "1536:", "link eni", "file"); got != "" {
			t.Errorf("got %s, want nothing", got)
		}
	}
}

// forget has ipamd release the address of a pod that goes on using it.
func (l *lab) forget(p *pod) {
	l.t.Helper()
	l.ask(func(ipamd rpc.CNIBackendClient) error {
		_, err := ipamd.DelNetwork(l.t.Context(), &rpc.DelNetworkRequest{
			NetworkName: "net", ContainerID: p.id, IfName: "eth0",
		})
		return err
	})
}

// remember has ipamd assign an address to a pod, and makes nothing on the node.
func (l *lab) remember(p *pod) {
	l.t.Helper()
	l.ask(func(ipamd rpc.CNIBackendClient) error {
		_, err := ipamd.AddNetwork(l.t.Context(), &rpc.AddNetworkRequest{
			NetworkName: "net", ContainerID: p.id, IfName: "eth0",
		})
		return err
	})
}

func (l *lab) ask(do func(rpc.CNIBackendClient) error) {
	l.t.Helper()
	conn, err := grpc.NewClient("unix:"+l.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	if err := do(rpc.NewCNIBackendClient(conn)); err != nil {
		l.t.Fatal(err)
	}
}
