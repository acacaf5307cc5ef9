package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

func TestStatus(t *testing.T) {
	sysctl := func(path, value string) func() error {
		return func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) }
	}
	for _, tt := range []struct {
		name    string
		changes map[string]any
		node    func() error
		want    string
	}{
		{name: "ready", want: "success"},
		{name: "ready, hostInterface by the default route", changes: map[string]any{"hostInterface": nil}, want: "success"},
		{name: "no hostInterface", changes: map[string]any{"hostInterface": "eth9"}, want: `50: hostInterface "eth9" does not exist on this node`},
		{
			name: "no default route", changes: map[string]any{"hostInterface": nil},
			node: edit(uplink, netlink.LinkSetDown),
			want: "50: hostInterface is not set, and the node has no default route whose link could be used",
		},
		{
			name: "hostInterface down", node: edit(uplink, netlink.LinkSetDown),
			want: `51: hostInterface "enp5s0f0" is down: bring it up (ip link set enp5s0f0 up)`,
		},
		{
			name: "no address", node: func() error {
				return deleteAddress(uplink, "10.10.20.152/24")
			}, changes: map[string]any{"routes": []string{"10.96.0.0/12"}},
			want: `50: hostInterface "enp5s0f0" has no IPv4 address by which pods could reach the node: give it one`,
		},
		{
			name: "does not forward", node: sysctl("ipv4/conf/"+uplink+"/forwarding", "0"),
			want: "50: the node does not forward packets from enp5s0f0, which node ports need: set sysctl net.ipv4.conf.enp5s0f0.forwarding=1",
		},
		{name: "does not forward IPv6, and no pod has any", node: sysctl("ipv6/conf/all/forwarding", "0"), want: "success"},
		{
			name: "does not forward IPv6, which routes name", node: sysctl("ipv6/conf/all/forwarding", "0"),
			changes: map[string]any{"routes": []string{"fd00:96::/112"}},
			want:    "50: the node does not forward, which services need: set sysctl net.ipv6.conf.all.forwarding=1",
		},
		{name: "a chain that drops", node: dropForward, want: "50: forwarded packets of pods are dropped by chain " +
			"FORWARD of table ip filter: its owner must accept them, " +
			"with Docker by iptables -I DOCKER-USER -i veth+ -j ACCEPT and iptables -I DOCKER-USER -o veth+ -j ACCEPT"},
		{
			name: "a file in the place of the records", node: func() error {
				return plugintest.PlaceFile("/run/cni/veth-to-host/cni0")
			},
			want: `50: records of network "cni0" cannot be written: /run/cni/veth-to-host/cni0 is a file, want a directory: remove it`,
		},
		{
			name: "a file in the place of all records", node: func() error {
				return plugintest.PlaceFile("/run/cni/veth-to-host")
			},
			want: `50: records of network "cni0" cannot be written: /run/cni/veth-to-host is a file, want a directory: remove it`,
		},
		{name: "a chain that drops all but pods", node: dropForwardButPods, want: "success"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			if tt.node != nil {
				l.node1.in(t, tt.node)
			}
			before := l.node1.state(t)
			out, err := l.node1.run(t, call{Command: "STATUS", Stdin: conf(tt.changes)})
			if err == nil && out != "" {
				t.Errorf("got %s, want no output", out)
			}
			if diff := cmp.Diff(tt.want, err.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, l.node1.state(t)); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

// If there are pods, there are records. Even then the directory of another network may be a file.
func TestStatus_after_use(t *testing.T) {
	l := newLab(t)
	l.node1.mustAdd(t, l.pod(l.node1, "a", 50, bridgeMode))
	for _, tt := range []struct {
		name, network string
		before        func() error
		want          string
	}{
		{name: "ready", network: "cni0", before: func() error { return nil }, want: "success"},
		{
			name: "a file in the place of another network's records", network: "cni1", before: func() error {
				return plugintest.PlaceFile("/run/cni/veth-to-host/cni1")
			},
			want: `50: records of network "cni1" cannot be written: /run/cni/veth-to-host/cni1 is a file, want a directory: remove it`,
		},
		{name: "the same, of the network with records", network: "cni0", before: func() error { return nil }, want: "success"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l.node1.in(t, tt.before)
			before := l.node1.state(t)
			_, err := l.node1.run(t, call{Command: "STATUS", Stdin: conf(map[string]any{"name": tt.network})})
			if diff := cmp.Diff(tt.want, err.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, l.node1.state(t)); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

// dropForwardButPods adds the rules with which an administrator accepts pods.
func dropForwardButPods() error {
	if err := dropForward(); err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.AddRule(&nftables.Rule{
		Table: filterTable(), Chain: &nftables.Chain{Name: "FORWARD", Table: filterTable()},
		Exprs: concat(
			loadMeta(expr.MetaKeyIIFNAME, register1), equals([]byte(vethPrefix)), verdict(expr.VerdictAccept)),
	})
	return conn.Flush()
}
