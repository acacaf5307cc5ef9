package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// Each object that ADD made is broken alone, and CHECK names it. Node and pod are broken in their own namespaces.
func TestCheck(t *testing.T) {
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	l.node1.mustAdd(t, p)
	host := l.node1.hostEnd(t)
	id := identity{p.attachment(), 0}
	sysctl := func(path, value string) func() error {
		return func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) }
	}
	for _, tt := range []struct {
		name      string
		node, pod func() error
		want      string
	}{
		{name: "nothing", want: "success"},
		{
			name: "forwarding off", node: sysctl("ipv6/conf/all/forwarding", "0"),
			want: "999: the node does not forward, which services need: set sysctl net.ipv6.conf.all.forwarding=1",
		},
		{
			name: "node's address", node: func() error { return deleteAddress(uplink, "fd00:20::152/64") },
			want: "999: address fd00:20::152, by which the pod knows the node, is not an address of the node: " +
				"delete the attachment and add it again",
		},
		{
			name: "src_valid_mark", node: sysctl("ipv4/conf/"+uplink+"/src_valid_mark", "0"),
			want: "999: link enp5s0f0: want sysctl ipv4.src_valid_mark=1, got 0",
		},
		{name: "node's end gone", node: func() error { return delLink(host) }, want: "999: link VETH is missing"},
		{name: "node's end down", node: edit(host, netlink.LinkSetDown), want: "999: link VETH is down"},
		{name: "node's MTU", node: edit(host, func(l netlink.Link) error {
			return netlink.LinkSetMTU(l, 1300)
		}), want: "999: link VETH: want mtu 1500, got 1300"},
		{
			name: "node's hardware address", node: edit(host, func(l netlink.Link) error {
				return netlink.LinkSetHardwareAddr(l, []byte{2, 0, 0, 0, 0, 1})
			}),
			want: "999: link VETH: want hardware address HOSTMAC, got 02:00:00:00:00:01",
		},
		{name: "node's setting", node: sysctl("ipv6/conf/"+host+"/accept_ra", "2"), want: "999: link VETH: want sysctl ipv6.accept_ra=0, got 2"},
		{name: "node's neighbour", node: deleteNeighbour(host, "10.10.20.50"), want: "999: neighbour 10.10.20.50 on VETH is missing"},
		{
			name: "host route", node: deleteRoute("10.10.20.50/32 dev " + host + " src 10.10.20.152"),
			want: "999: route 10.10.20.50/32 dev VETH src 10.10.20.152 is missing",
		},
		{
			name: "table N", node: deleteRoute("default via fd00:20::50 dev " + host + " table 256"),
			want: "999: route default via fd00:20::50 dev VETH table 256 is missing",
		},
		{name: "rule 1024", node: deleteRule(1024, unix.AF_INET), want: "999: rule 1024: from all iif VETH lookup 256 is missing"},
		{
			name: "rule 1023", node: deleteRule(1023, unix.AF_INET6),
			want: "999: rule IPv6 1023: from all iif VETH lookup main suppress_prefixlength 127 is missing",
		},
		{name: "rule 512", node: deleteRule(512, unix.AF_INET), want: "999: rule 512: from all fwmark 0x2000/0x2000 lookup main is missing"},
		{name: "node's table", node: flushTable, want: "999: nftables: table inet cni-veth-to-host is missing"},
		{
			name: "node's chain", node: editTable(func(c *nftables.Conn, t *nodeTable) { c.FlushChain(t.chains[0]) }),
			want: "999: nftables: table inet cni-veth-to-host: chain prerouting: want 5 rules of this plugin, got 0 and 0 others",
		},
		{
			name: "no chain", node: editTable(func(c *nftables.Conn, t *nodeTable) { c.DelChain(t.chains[0]) }),
			want: "999: nftables: table inet cni-veth-to-host: chain prerouting is missing",
		},
		{
			name: "node's guard", node: flushChains(guardChain),
			want: "999: nftables: table inet cni-veth-to-host: chain guard: want 5 rules of this plugin, got 0 and 0 others",
		},
		{
			name: "node's guard before tracking", node: flushChains(guardRaw),
			want: "999: nftables: table inet cni-veth-to-host: chain guard-raw: want 5 rules of this plugin, got 0 and 0 others",
		},
		{
			name: "node's guard before tracking, with its chain", node: func() error {
				if err := flushChains(guardRaw)(); err != nil {
					return err
				}
				return editTable(func(c *nftables.Conn, t *nodeTable) {
					c.DelChain(&nftables.Chain{Name: guardRaw, Table: t.Table})
				})()
			},
			want: "999: nftables: table inet cni-veth-to-host: chain guard-raw is missing",
		},
		{
			name: "node's guard of replies", node: flushChains(guardReplies),
			want: "999: nftables: table inet cni-veth-to-host: chain guard-replies: want 2 rules of this plugin, got 0 and 0 others",
		},
		{
			name: "node's sources", node: editTable(func(c *nftables.Conn, t *nodeTable) { c.FlushSet(t.own4) }),
			want: "999: nftables: table inet cni-veth-to-host: set own4: this attachment's element is missing",
		},
		{
			name: "node's ARP", node: sysctl("ipv4/conf/"+host+"/arp_ignore", "0"),
			want: "999: link VETH: want sysctl ipv4.arp_ignore=8, got 0",
		},
		{
			name: "node's element", node: editTable(func(c *nftables.Conn, t *nodeTable) { c.FlushSet(t.source6) }),
			want: "999: nftables: table inet cni-veth-to-host: set source6: this attachment's element is missing",
		},
		{name: "a chain that drops", node: dropForward, want: "999: forwarded packets of pods are dropped by chain " +
			"FORWARD of table ip filter: its owner must accept them, " +
			"with Docker by iptables -I DOCKER-USER -i veth+ -j ACCEPT and iptables -I DOCKER-USER -o veth+ -j ACCEPT"},
		{name: "pod's end down", pod: edit("veth0", netlink.LinkSetDown), want: "999: in the pod: link veth0 is down"},
		{name: "pod's address", pod: func() error {
			return deleteAddress("veth0", "10.10.20.50/32")
		}, want: "999: address 10.10.20.50 is missing on link veth0 of the pod"},
		{name: "pod's underlay address", pod: func() error {
			return deleteAddress("eth0", "fd00:20::50/64")
		}, want: "999: prevResult: address fd00:20::50 is not on link eth0 of the pod"},
		{name: "pod's neighbour", pod: deleteNeighbour("veth0", "fd00:20::152"), want: "999: in the pod: neighbour fd00:20::152 on veth0 is missing"},
		{name: "pod's setting", pod: sysctl("ipv4/conf/eth0/rp_filter", "1"), want: "999: in the pod: link eth0: want sysctl ipv4.rp_filter=2, got 1"},
		{
			name: "pod's default route", pod: deleteRoute("default via 10.10.20.152 dev veth0"),
			want: "999: in the pod: route default via 10.10.20.152 dev veth0 is missing",
		},
		{
			name: "pod's way out", pod: deleteRoute("10.10.20.0/24 dev eth0 src 10.10.20.50 table 257"),
			want: "999: in the pod: route 10.10.20.0/24 dev eth0 src 10.10.20.50 table 257 is missing",
		},
		{name: "pod's rule", pod: deleteRule(1024, unix.AF_INET), want: "999: in the pod: rule 1024: from all iif veth0 lookup 257 is missing"},
		{name: "pod's table", pod: func() error {
			conn, err := nftables.New()
			if err != nil {
				return err
			}
			return newTable("cni-veth-to-host-eth0").remove(conn)
		}, want: "999: in the pod: nftables: table inet cni-veth-to-host-eth0 is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.node != nil {
				l.node1.in(t, tt.node)
			}
			if tt.pod != nil {
				in(t, p.ns, tt.pod)
			}
			_, err := l.node1.run(t, p.call("CHECK"))
			want := strings.NewReplacer("VETH", host, "HOSTMAC", id.mac("host").String()).Replace(tt.want)
			if diff := cmp.Diff(want, err.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			l.node1.in(t, func() error {
				return undrop(sysctl("ipv6/conf/all/forwarding", "1"))
			})
			l.node1.in(t, func() error { return restore(uplink, "fd00:20::152/64") })
			in(t, p.ns, func() error { return restore("eth0", "fd00:20::50/64") })
			l.node1.mustAdd(t, p) // the ADD removes everything old first
			host = l.node1.hostEnd(t)
		})
	}
}

func edit(name string, do func(netlink.Link) error) func() error {
	return func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return do(link)
	}
}

func deleteNeighbour(name, ip string) func() error {
	return edit(name, func(link netlink.Link) error {
		return netlink.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: net.ParseIP(ip)})
	})
}

func deleteAddress(name, ip string) error {
	return edit(name, func(link netlink.Link) error {
		addr, err := netlink.ParseAddr(ip)
		if err != nil {
			return err
		}
		return netlink.AddrDel(link, addr)
	})()
}

// deleteRoute returns a function that deletes the route that String prints as text.
func deleteRoute(text string) func() error {
	return func() error {
		n, err := kernel.Current()
		if err != nil {
			return err
		}
		defer n.Close()
		all, err := readRoutes(n)
		if err != nil {
			return err
		}
		for _, listed := range all.listed {
			if r, ok := routeOf(listed, all.names[listed.LinkIndex]); ok && r.String() == text {
				return n.DeleteRoute(listed)
			}
		}
		return fmt.Errorf("there is no route %s", text)
	}
}

func deleteRule(priority, family int) func() error {
	return func() error {
		n, err := kernel.Current()
		if err != nil {
			return err
		}
		defer n.Close()
		rules, err := n.Rules()
		if err != nil {
			return err
		}
		for _, rule := range rules {
			if rule.Priority == priority && rule.Family == family {
				return n.DeleteRule(rule)
			}
		}
		return fmt.Errorf("there is no rule %d", priority)
	}
}

func editTable(edit func(*nftables.Conn, *nodeTable)) func() error {
	return func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		edit(conn, newNodeTable([]entry{{State: attachment{Sources: []netip.Addr{nowhere(false)}}}}))
		return conn.Flush()
	}
}

func filterTable() *nftables.Table {
	return &nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4}
}

// dropForward drops forwarded packets as dockerd does when it starts.
func dropForward() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	drop := nftables.ChainPolicyDrop
	conn.AddChain(&nftables.Chain{
		Name: "FORWARD", Table: conn.AddTable(filterTable()), Type: nftables.ChainTypeFilter,
		Hooknum:  nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	return conn.Flush()
}

func undrop(then func() error) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	t := newTable("filter")
	t.Family = nftables.TableFamilyIPv4
	if err := t.remove(conn); err != nil {
		return err
	}
	return then()
}

// restore gives a link an address that a case has removed.
func restore(name, address string) error {
	if err := plugintest.Configure(name, address); err != nil && !strings.Contains(err.Error(), "exists") {
		return err
	}
	return nil
}
