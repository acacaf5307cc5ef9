package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// damage removes something from a pod, in one of two namespaces.
type damage struct {
	name string
	on   func(l *lab, p *pod) ns.NetNS
	do   func(host, pod string) error
	want string // HOST is the name of the node's end
}

func onNode(l *lab, _ *pod) ns.NetNS { return l.node }
func onPod(_ *lab, p *pod) ns.NetNS  { return p.ns }

func changeLink(name string, change func(netlink.Link) error) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return change(link)
}

func removeRule(priority int, from, to string) error {
	rule := netlink.NewRule()
	rule.Priority = priority
	if from != "" {
		rule.Src = netipx.AddrIPNet(netip.MustParseAddr(from))
	}
	if to != "" {
		rule.Dst = netipx.AddrIPNet(netip.MustParseAddr(to))
	}
	return netlink.RuleDel(rule)
}

func host(s string) *net.IPNet { return netipx.AddrIPNet(netip.MustParseAddr(s)) }

// swap replaces the pod's end by another link with the same name and hardware address.
func swap(_, pod string) error {
	return changeLink(pod, func(l netlink.Link) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = pod, l.Attrs().HardwareAddr
		return errors.Join(netlink.LinkSetDown(l), netlink.LinkSetName(l, "old0"),
			netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"}), changeLink(pod, netlink.LinkSetUp))
	})
}

// G04: CHECK names each thing that ADD made and that is now missing or changed.
func TestCheck(t *testing.T) {
	otherMAC := net.HardwareAddr{2, 1, 1, 1, 1, 1}
	gateway := net.ParseIP("169.254.1.1")
	for _, tt := range []damage{
		{"the node's end", onNode, func(host, _ string) error { return changeLink(host, netlink.LinkDel) }, "link HOST is missing"},
		{"the node's end down", onNode, func(host, _ string) error { return changeLink(host, netlink.LinkSetDown) }, "link HOST is down"},
		{"the node's end's MTU", onNode, func(host, _ string) error {
			return changeLink(host, func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1400) })
		}, "link HOST: want mtu 1500, got 1400"},
		{"the node's end's MAC", onNode, func(host, _ string) error {
			return changeLink(host, func(l netlink.Link) error { return netlink.LinkSetHardwareAddr(l, otherMAC) })
		}, "link HOST: want MAC HOSTMAC, got 02:01:01:01:01:01"},
		{"a setting", onNode, func(host, _ string) error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/"+host+"/accept_ra", []byte("1"), 0)
		}, "link HOST: want sysctl ipv6.accept_ra=0, got 1"},
		{"the pod's end down", onPod, func(_, pod string) error { return changeLink(pod, netlink.LinkSetDown) }, "link eth0 of the pod is down"},
		{"the pod's end's MAC", onPod, func(_, pod string) error {
			return changeLink(pod, func(l netlink.Link) error { return netlink.LinkSetHardwareAddr(l, otherMAC) })
		}, "link eth0 of the pod: want MAC PODMAC, got 02:01:01:01:01:01"},
		{"the pod's end's MTU", onPod, func(_, pod string) error {
			return changeLink(pod, func(l netlink.Link) error { return netlink.LinkSetMTU(l, 9000) })
		}, "link eth0 of the pod: want mtu 1500 or less, got 9000"},
		{"the pod's end's name", onPod, func(_, pod string) error {
			return changeLink(pod, func(l netlink.Link) error { return netlink.LinkSetName(l, "eth9") })
		}, "link eth0 of the pod is missing"},
		{"the pod's end swapped", onPod, swap, "link eth0 of the pod is not the other end of HOST"},
		{"the address", onPod, func(_, pod string) error {
			return changeLink(pod, func(l netlink.Link) error {
				return netlink.AddrDel(l, &netlink.Addr{IPNet: host("10.0.97.30")})
			})
		}, "address 10.0.97.30 is not on link eth0 of the pod"},
		{
			"the default route", onPod, func(_, _ string) error {
				return netlink.RouteDel(&netlink.Route{Gw: gateway})
			},
			"route to 0.0.0.0/0 on link eth0 of the pod is missing",
		},
		{"the next hop", onPod, func(_, pod string) error {
			return changeLink(pod, func(l netlink.Link) error {
				return netlink.RouteDel(&netlink.Route{
					Dst: host("169.254.1.1"), LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK,
				})
			})
		}, "route to 169.254.1.1/32 on link eth0 of the pod is missing"},
		{"the neighbour", onPod, func(_, pod string) error {
			return changeLink(pod, func(l netlink.Link) error {
				return netlink.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: gateway})
			})
		}, "neighbour 169.254.1.1 on link eth0 of the pod is missing"},
		{"the neighbour's MAC", onPod, func(_, pod string) error {
			return changeLink(pod, func(l netlink.Link) error {
				return netlink.NeighSet(&netlink.Neigh{
					LinkIndex: l.Attrs().Index, IP: gateway, HardwareAddr: otherMAC, State: netlink.NUD_PERMANENT,
				})
			})
		}, "neighbour 169.254.1.1 on link eth0 of the pod: want HOSTMAC, that of HOST, got 02:01:01:01:01:01"},
		{"the host route", onNode, func(_, _ string) error {
			return netlink.RouteDel(&netlink.Route{Dst: host("10.0.97.30"), Scope: netlink.SCOPE_LINK})
		}, "route to 10.0.97.30 on HOST is missing"},
		{"another host route", onNode, func(_, _ string) error {
			return changeLink("lo", func(l netlink.Link) error {
				return netlink.RouteAddEcmp(&netlink.Route{ // before the pod's, which has the same metric
					Dst: host("10.0.97.30"), LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK,
				})
			})
		}, "route to 10.0.97.30: want it on HOST alone, got another on the link with index 1"},
		{"the rule to the pod", onNode, func(_, _ string) error {
			return removeRule(512, "", "10.0.97.30")
		}, "rule 512: from all to 10.0.97.30 lookup main is missing"},
		{"the rule from the pod", onNode, func(_, _ string) error {
			return removeRule(1536, "10.0.97.30", "")
		}, "rule 1536: from 10.0.97.30 lookup 2 is missing"},
		{"another rule from the pod", onNode, func(_, _ string) error {
			rule := netlink.NewRule()
			rule.Priority, rule.Table, rule.Src = 1536, 77, host("10.0.97.30")
			return netlink.RuleAdd(rule)
		}, "rule 1536 for 10.0.97.30 leads to table 77, which is not that of its ENI"},
		{"a rule that refuses the pod's packets", onNode, func(_, _ string) error {
			rule := netlink.NewRule()
			rule.Priority, rule.Type, rule.Src = 1536, unix.RTN_PROHIBIT, host("10.0.97.30")
			return netlink.RuleAdd(rule)
		}, "rule 1536 for 10.0.97.30 leads to table 0, which is not that of its ENI"},
		{
			"the record", onNode, func(_, _ string) error { return os.Remove("/run/cni/routed-eni/net/p/eth0") },
			"record of attachment net/p/eth0 is missing: delete the attachment and add it again",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.start()
			first, p := l.pod("first"), l.pod("p")
			l.mustAdd(first)
			l.mustAdd(p)
			wantError(t, l.check(p, nil), "")
			l.in(tt.on(l, p), func() error { return tt.do(p.link(), "eth0") })
			want := strings.NewReplacer("HOSTMAC", p.identity().mac("host"), "PODMAC", p.identity().mac("pod"), "HOST",
				p.link()).Replace(tt.want)
			wantError(t, l.check(p, nil), "999: "+want)
			wantError(t, l.check(first, nil), "")
		})
	}
}

func TestCheck_prevResult(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.pod("p")
	l.mustAdd(p)
	for _, tt := range []struct {
		name string
		prev any
		want string
	}{
		{"missing", nil, "7: prevResult is missing: CHECK compares with the result of ADD"},
		{"damaged", "x", "7: prevResult: json: cannot unmarshal string into Go value of type chain.versioned"},
		{
			"another address", json.RawMessage(strings.Replace(p.result, "10.0.0.30/32", "10.0.0.31/32", 1)),
			"999: prevResult: want address 10.0.0.30 on link eth0, got [10.0.0.31]",
		},
		{
			"another MAC", json.RawMessage(strings.Replace(p.result, p.identity().mac("pod"), "02:01:01:01:01:01", 1)),
			"999: link eth0 of the pod: want MAC 02:01:01:01:01:01, got " + p.identity().mac("pod"),
		},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, l.check(p, map[string]any{"prevResult": tt.prev}), tt.want) })
	}
}

// CHECK allows changes by later plugins in the chain, and DEL after them removes everything.
func TestCheck_in_a_chain(t *testing.T) {
	for _, tt := range []struct{ name, plugin, conf, want string }{
		{"tuning", "tuning", `"mtu":1400,"sysctl":{"net.ipv4.conf.eth0.arp_ignore":"1"}`, ""},
		{"sbr", "sbr", `"args":{}`, ""},
		// The kernel forgets all neighbours of a link that gets another MAC (neigh_changeaddr).
		{"a MAC", "tuning", `"mac":"02:01:01:01:01:01"`, "999: neighbour 169.254.1.1 on link eth0 of the pod is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.start()
			bare := l.state()
			p := l.pod("p")
			version := map[string]any{"cniVersion": "1.0.0"}
			if err := l.add(p, version); err != nil {
				t.Fatal(err)
			}
			next := call{Command: "ADD", ID: p.id, Netns: p.ns.Path()}
			next.Stdin = fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","type":%q,%s,"prevResult":%s}`, tt.plugin,
				tt.conf, p.result)
			out, err := next.Run(t, tt.plugin, l.starter())
			if err != nil {
				t.Fatal(err)
			}
			p.result = out
			wantError(t, l.check(p, version), tt.want)
			if tt.want == "" {
				l.mustReach(l.vpc, p.ns, "10.0.0.30", "10.0.0.1")
			}
			next.Command = "DEL"
			if _, err := next.Run(t, tt.plugin, l.starter()); err != nil {
				t.Error(err)
			}
			l.mustDel(p)
			if got := lines(added(bare, l.state()), "link", "route", "512:", "file /run/cni/routed-eni"); got != "" {
				t.Errorf("got %s, want nothing", got)
			}
		})
	}
}
