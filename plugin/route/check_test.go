package main

import (
	"net"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

func TestCheck(t *testing.T) {
	child := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1.host"}}
	for _, tt := range []struct {
		name    string
		breakIt func(l *lab, p *pod) error
		changes map[string]any
		ip      string // an address in prevResult that ADD did not get
		want    string
	}{
		{name: "nothing broken", want: "success"},
		{name: "master gone", breakIt: onNode(func(n *kernel.Namespace) error {
			return n.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1"}})
		}), want: `999: master "eno1" does not exist on this node`},
		{name: "child gone", breakIt: func(*lab, *pod) error { return netlink.LinkDel(child) }, want: "999: link eno1.host is missing"},
		{name: "child down", breakIt: func(*lab, *pod) error { return setDown("eno1.host") }, want: "999: link eno1.host is down"},
		{
			name: "child with another mtu", breakIt: func(*lab, *pod) error { return netlink.LinkSetMTU(child, 1300) },
			want: "999: link eno1.host: want mtu 1500, that of eno1, got 1300",
		},
		{
			name: "child of another kind", breakIt: replaceChild(&netlink.Bridge{}),
			want: "999: link eno1.host exists and is of kind bridge, want a macvlan of eno1 (index 2) in mode bridge: remove it, or set bridge to a free name",
		},
		{
			name: "child in another mode", breakIt: replaceChild(&netlink.Macvlan{
				LinkAttrs: netlink.LinkAttrs{ParentIndex: 1}, Mode: netlink.MACVLAN_MODE_PRIVATE,
			}),
			want: "999: link eno1.host exists and is a macvlan in mode private, want a macvlan of eno1 (index 2) in mode bridge: remove it, or set bridge to a free name",
		},
		{name: "arp_filter off", breakIt: setSysctl("ipv4/conf/eno1.host/arp_filter", "0"), want: "999: link eno1.host: want sysctl ipv4.arp_filter=1, got 0"},
		{name: "rp_filter as systemd sets it", breakIt: setSysctl("ipv4/conf/eno1.host/rp_filter", "2"), want: "success"},
		{
			name: "arp_ignore on all", breakIt: setSysctl("ipv4/conf/all/arp_ignore", "1"),
			want: "999: sysctl ipv4.all.arp_ignore is 1, with which eno1.host answers no pod: want 0 or 3",
		},
		{name: "accept_ra on", breakIt: setSysctl("ipv6/conf/eno1.host/accept_ra", "1"), want: "999: link eno1.host: want sysctl ipv6.accept_ra=0, got 1"},
		{name: "link-local address gone", breakIt: onNode(func(n *kernel.Namespace) error {
			addr, err := netlink.ParseAddr(childLL + "/64")
			if err != nil {
				return err
			}
			return netlink.AddrDel(child, addr)
		}), want: "999: link eno1.host: address " + childLL + " is missing, which pods use as next hop"},
		{name: "the node's IPv6 address gone", breakIt: onNode(func(*kernel.Namespace) error {
			addr, err := netlink.ParseAddr("fd00:20::5/64")
			if err != nil {
				return err
			}
			return netlink.AddrDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1"}}, addr)
		}), want: "999: address fd00:20::5, by which the pod knows the node, is not an address of the node: delete the " +
			"attachment and add it again"},
		{name: "route gone", breakIt: changeRoute(nil), want: "999: route to 192.168.1.2 on eno1.host is missing"},
		{
			name: "route without source", breakIt: changeRoute(func(*netlink.Route) {}),
			want: "999: route to 192.168.1.2 on eno1.host: want source 192.168.0.5, got none",
		},
		{
			name: "route with another source", breakIt: changeRoute(func(r *netlink.Route) {
				r.Src = net.ParseIP("10.9.0.7")
			}),
			want: "999: route to 192.168.1.2 on eno1.host: want source 192.168.0.5, got 10.9.0.7",
		},
		{
			name: "route elsewhere", breakIt: changeRoute(func(r *netlink.Route) { r.LinkIndex = linkIndex("eth9") }),
			want: "999: route to 192.168.1.2: want it on eno1.host alone, got another on eth9",
		},
		{name: "neighbour gone", breakIt: onNode(func(n *kernel.Namespace) error {
			return netlink.NeighDel(&netlink.Neigh{LinkIndex: linkIndex("eno1.host"), IP: net.ParseIP("fd00:20::102")})
		}), want: "999: neighbour fd00:20::102 on eno1.host is missing"},
		{name: "neighbour elsewhere", breakIt: onNode(func(n *kernel.Namespace) error {
			return netlink.NeighSet(&netlink.Neigh{
				LinkIndex: linkIndex("eno1.host"), IP: net.ParseIP("192.168.1.2"), State: netlink.NUD_PERMANENT,
				HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 9, 9},
			})
		}), want: "999: neighbour 192.168.1.2 on eno1.host: want 02:00:00:0b:01:ef, that of link eth0 of the pod, " +
			"got 02:00:00:00:09:09"},
		{name: "pod has another hardware address", breakIt: inPod(func() error {
			return netlink.LinkSetHardwareAddr(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}},
				net.HardwareAddr{2, 0, 0, 0, 9, 9})
		}), want: "999: neighbour 192.168.1.2 on eno1.host: want 02:00:00:00:09:09, that of link eth0 of the pod, " +
			"got 02:00:00:0b:01:ef: " +
			"a later plugin has changed the pod's; put it before route"},
		{
			name: "route in the pod gone", breakIt: changePodRoute(func(*netlink.Route) error { return nil }),
			want: "999: route 10.9.0.7 via 192.168.0.5 dev eth0 is missing in the pod",
		},
		{name: "route in the pod in another table, as by sbr", breakIt: changePodRoute(func(r *netlink.Route) error {
			r.Table = 100
			return netlink.RouteAdd(r)
		}), want: "success"},
		{
			name: "record gone", breakIt: func(*lab, *pod) error { return os.RemoveAll("/run/cni") },
			want: "999: record of attachment default/a/eth0 is missing: delete the attachment and add it again",
		},
		{
			name: "record empty", breakIt: func(*lab, *pod) error { return os.WriteFile(recordOfA, nil, 0o644) },
			want: "999: record default/a/eth0: unexpected end of JSON input",
		},
		{name: "address given to another", breakIt: func(l *lab, _ *pod) error {
			l.mustAdd(l.pod("b", "192.168.1.2/16", "fd00:20::102/64"))
			return nil
		}, want: "999: all addresses of this attachment belong to newer attachments"},
		{name: "wrong address in prevResult", ip: "192.168.9.9/16", want: "999: prevResult: address 192.168.9.9 is not on link eth0 of the pod"},
		{name: "address of a later plugin", ip: "192.168.9.9/16", breakIt: inPod(func() error {
			return plugintest.Configure("eth0", "192.168.9.9/16")
		}), want: "success"},
		{
			name: "no prevResult", changes: map[string]any{"prevResult": nil},
			want: `7: prevResult is missing: "route" works on the interface of a plugin before it; list it after that plugin`,
		},
		{
			name: "another bridge", changes: map[string]any{"bridge": "other.host"},
			want: `7: bridge is "other.host", and this attachment was made with "eno1.host": delete it and add it again`,
		},
		{
			name: "another master", changes: map[string]any{"master": "eth9"},
			want: `7: master is "eth9", and this attachment was made with "eno1": delete it and add it again`,
		},
		{name: "defaults that have changed", changes: map[string]any{"master": nil, "bridge": nil}, want: "success"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.nic("eth9", "10.9.0.7/24")
			p := l.pod("a", "192.168.1.2/16", "fd00:20::102/64")
			l.mustAdd(p)
			if tt.breakIt != nil {
				l.inNode(func() error { return tt.breakIt(l, p) })
			}
			prev := p.prev()
			prev["routes"] = []any{map[string]any{"dst": "10.9.0.7/32", "gw": "192.168.0.5"}}
			if tt.ip != "" {
				prev["ips"] = append(prev["ips"].([]any), map[string]any{"address": tt.ip, "interface": 0})
			}
			changes := map[string]any{"prevResult": prev}
			for key, value := range tt.changes {
				changes[key] = value
			}
			before := l.state()
			_, err := l.run(call{Command: "CHECK", ID: "a", Netns: p.ns.Path(), Stdin: conf(changes)})
			if got := err.String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if diff := cmp.Diff(before, l.state()); diff != "" {
				t.Errorf("state (-before +after):\n%s", diff)
			}
		})
	}
}

// A later plugin removed the routes from the pod and from the result.
func TestCheck_routes_that_the_result_no_longer_lists(t *testing.T) {
	l := newLab(t)
	l.nic("eth9", "10.9.0.7/24")
	p := l.pod("a", "192.168.1.2/16")
	l.mustAdd(p)
	l.in(p.ns, func() error {
		prefix, err := netlink.ParseIPNet("10.9.0.7/32")
		if err != nil {
			return err
		}
		return netlink.RouteDel(&netlink.Route{Dst: prefix})
	})
	if err := l.check(p, nil); err != nil {
		t.Error(err)
	}
}

// setSysctl returns a function that breaks the node by setting a sysctl in its namespace.
func setSysctl(path, value string) func(*lab, *pod) error {
	return func(*lab, *pod) error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) }
}

// onNode returns a function that changes the node.
func onNode(do func(n *kernel.Namespace) error) func(*lab, *pod) error {
	return func(*lab, *pod) error {
		n, err := kernel.Current()
		if err != nil {
			return err
		}
		defer n.Close()
		return do(n)
	}
}

// replaceChild returns a function that replaces the child of the master by another link.
func replaceChild(link netlink.Link) func(*lab, *pod) error {
	return func(*lab, *pod) error {
		if err := netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1.host"}}); err != nil {
			return err
		}
		link.Attrs().Name = "eno1.host"
		if link.Attrs().ParentIndex != 0 {
			link.Attrs().ParentIndex = linkIndex("eno1")
		}
		return netlink.LinkAdd(link)
	}
}

// changeRoute returns a function that deletes the route to the pod and adds it changed; nil leaves it deleted.
func changeRoute(change func(r *netlink.Route)) func(*lab, *pod) error {
	return func(*lab, *pod) error {
		prefix, err := netlink.ParseIPNet("192.168.1.2/32")
		if err != nil {
			return err
		}
		old := &netlink.Route{Dst: prefix, Scope: netlink.SCOPE_LINK, LinkIndex: linkIndex("eno1.host")}
		if err := netlink.RouteDel(old); err != nil || change == nil {
			return err
		}
		r := *old
		change(&r)
		return netlink.RouteAdd(&r)
	}
}

// inPod returns a function that changes the pod.
func inPod(do func() error) func(*lab, *pod) error {
	return func(l *lab, p *pod) error {
		l.in(p.ns, do)
		return nil
	}
}

// changePodRoute returns a function that deletes the pod's route to another network and adds it changed.
func changePodRoute(change func(r *netlink.Route) error) func(*lab, *pod) error {
	return inPod(func() error {
		prefix, err := netlink.ParseIPNet("10.9.0.7/32")
		if err != nil {
			return err
		}
		r := &netlink.Route{
			Dst: prefix, Gw: net.ParseIP("192.168.0.5"), LinkIndex: linkIndex("eth0"), Priority: metricOther,
		}
		if err := netlink.RouteDel(r); err != nil {
			return err
		}
		return change(r)
	})
}
