package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// An ADD that cannot work must change nothing.
func TestAdd_refuses(t *testing.T) {
	plain := func(l *lab) *pod { return l.pod("a", "192.168.1.2/16") }
	inMode := func(mode netlink.MacvlanMode) func(l *lab) *pod {
		return func(l *lab) *pod {
			p := &pod{ns: newNamespace(l.t), id: "a", ips: []string{"192.168.1.2/16"}}
			l.macvlan(p, "eth0", "eno1", mode, p.ips...)
			return p
		}
	}
	// taken makes a link with the child's name.
	taken := func(link func(parent int, attrs netlink.LinkAttrs) netlink.Link) func(l *lab) *pod {
		return func(l *lab) *pod {
			l.nic("eth9", "10.9.0.7/24")
			l.inNode(func() error {
				parent, err := netlink.LinkByName("eth9")
				if err != nil {
					return err
				}
				attrs := netlink.NewLinkAttrs()
				attrs.Name = "eno1.host"
				return netlink.LinkAdd(link(parent.Attrs().Index, attrs))
			})
			return plain(l)
		}
	}
	for _, tt := range []struct {
		name    string
		pod     func(l *lab) *pod
		changes map[string]any
		id      string
		netns   string
		want    string
	}{
		{
			name: "container id of 256 bytes", pod: plain, id: strings.Repeat("x", 256),
			want: `4: CNI_CONTAINERID, CNI_IFNAME or the network's name: "` +
				strings.Repeat("x", 32) + `"… cannot be a part of a record's path: want at most 255 bytes, got 256`,
		},
		{
			name: "mode private", pod: inMode(netlink.MACVLAN_MODE_PRIVATE),
			want: `7: link eth0 of the pod is a macvlan in mode private, which delivers nothing between two macvlans of one master: set mode bridge in macvlan`,
		},
		{
			name: "mode vepa", pod: inMode(netlink.MACVLAN_MODE_VEPA),
			want: `7: link eth0 of the pod is a macvlan in mode vepa, which delivers nothing between two macvlans of one master: set mode bridge in macvlan`,
		},
		{
			name: "mode passthru", pod: inMode(netlink.MACVLAN_MODE_PASSTHRU),
			want: `7: link eth0 of the pod is a macvlan in mode passthru, which takes the whole master and leaves no room for the child: set mode bridge in macvlan`,
		},
		{name: "a veth", pod: func(l *lab) *pod {
			p := &pod{ns: newNamespace(l.t), id: "a", ips: []string{"192.168.1.2/16"}}
			l.in(p.ns, func() error {
				attrs := netlink.NewLinkAttrs()
				attrs.Name = "eth0"
				return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"})
			})
			return p
		}, want: `7: link eth0 of the pod is of kind veth, and route is for macvlan alone: other kinds need no child ` +
			`to reach their node`},
		{name: "a macvlan of another master", pod: func(l *lab) *pod {
			l.nic("eth9", "10.9.0.7/24")
			p := &pod{ns: newNamespace(l.t), id: "a", ips: []string{"10.9.0.9/24"}}
			l.macvlan(p, "eth0", "eth9", netlink.MACVLAN_MODE_BRIDGE, p.ips...)
			return p
		}, want: `7: link eth0 of the pod is a macvlan of another device than master "eno1": set the same master in ` +
			`macvlan and route`},
		{name: "a macvlan of a device in the pod", pod: func(l *lab) *pod {
			p := &pod{ns: newNamespace(l.t), id: "a", ips: []string{"192.168.1.2/16"}}
			l.in(p.ns, func() error { // its index is that of eno1 on the node
				attrs := netlink.NewLinkAttrs()
				attrs.Name = "peer0"
				if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "inner"}); err != nil {
					return err
				}
				child := netlink.NewLinkAttrs()
				child.Name, child.ParentIndex = "eth0", linkIndex("inner")
				if want := indexOf(l, "eno1"); child.ParentIndex != want {
					return fmt.Errorf("want a device with index %d, got %d", want, child.ParentIndex)
				}
				return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: child, Mode: netlink.MACVLAN_MODE_BRIDGE})
			})
			return p
		}, want: `7: link eth0 of the pod is a macvlan of another device than master "eno1": set the same master in ` +
			`macvlan and route`},
		{name: "no such link in the pod", pod: func(l *lab) *pod {
			return &pod{ns: newNamespace(l.t), id: "a", ips: []string{"192.168.1.2/16"}}
		}, want: `7: prevResult names link eth0, which is not in the pod`},
		{
			name: "no prevResult", pod: plain, changes: map[string]any{"prevResult": nil},
			want: `7: prevResult is missing: "route" works on the interface of a plugin before it; list it after that plugin`,
		},
		{
			name: "no address", pod: plain, changes: map[string]any{
				"prevResult": map[string]any{"cniVersion": "1.1.0"},
			},
			want: `7: prevResult has no address on eth0 to route to: give the plugin that makes the link an ipam`,
		},
		{
			name: "prevResult of no known shape", pod: plain, changes: map[string]any{"prevResult": "x"},
			want: `7: prevResult: json: cannot unmarshal string into Go value of type chain.versioned`,
		},
		{
			name: "interface out of range", pod: plain, changes: map[string]any{"prevResult": map[string]any{
				"cniVersion": "1.1.0",
				"ips":        []any{map[string]any{"address": "192.168.1.2/16", "interface": 3}},
			}},
			want: `7: prevResult: address 192.168.1.2/16 is on interface 3, and there are 0 interfaces`,
		},
		{
			name: "address of the node", pod: func(l *lab) *pod { return l.pod("a", "192.168.0.5/16") },
			want: `7: address 192.168.0.5 of the pod is an address of the node: take it out of the ranges of ipam`,
		},
		{
			name: "namespace that does not exist", pod: plain, netns: "/run/netns/none",
			want: `4: CNI_NETNS: network namespace "/run/netns/none": no such file or directory`,
		},
		{
			name: "namespace of the node", pod: plain, netns: "/proc/self/ns/net",
			want: `4: CNI_NETNS "/proc/self/ns/net" is the namespace of the node, want that of a pod`,
		},
		{
			name: "master that does not exist", pod: plain, changes: map[string]any{"master": "eno7"},
			want: `7: master "eno7" does not exist on this node`,
		},
		{
			name: "no master and no default route", pod: plain, changes: map[string]any{"master": nil},
			want: `7: master is not set and the node has no default route to take it from`,
		},
		{name: "master is down", pod: func(l *lab) *pod {
			p := plain(l)
			l.inNode(func() error { return setDown("eno1") })
			return p
		}, want: `50: master "eno1" is down: bring it up (ip link set eno1 up)`},
		{
			name: "bridge is the master", pod: plain, changes: map[string]any{"bridge": "eno1"},
			want: `7: bridge "eno1" is the master itself; leave bridge out or name a link that does not exist`,
		},
		{
			name: "bridge of 16 bytes", pod: plain, changes: map[string]any{"bridge": "sixteen-bytes-16"},
			want: `7: bridge "sixteen-bytes-16": interface name is too long; interface name should be less than 16 characters`,
		},
		{
			name: "child of another kind", pod: taken(func(_ int, attrs netlink.LinkAttrs) netlink.Link {
				return &netlink.Bridge{LinkAttrs: attrs}
			}),
			want: `7: link eno1.host exists and is of kind bridge, want a macvlan of eno1 (index 2) in mode bridge: remove it, or set bridge to a free name`,
		},
		{name: "child of another parent", pod: taken(func(parent int, attrs netlink.LinkAttrs) netlink.Link {
			attrs.ParentIndex = parent
			return &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
		}), want: `7: link eno1.host exists and is a macvlan of the device with index 3, want a macvlan of eno1 ` +
			`(index 2) in mode bridge: remove it, or set bridge to a free name`},
		{name: "child in another mode", pod: taken(func(_ int, attrs netlink.LinkAttrs) netlink.Link {
			attrs.ParentIndex = 2
			return &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_VEPA}
		}), want: `7: link eno1.host exists and is a macvlan in mode vepa, want a macvlan of eno1 (index 2) in mode ` +
			`bridge: remove it, or set bridge to a free name`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			p := tt.pod(l)
			before := l.state()
			if tt.netns == "" {
				tt.netns = p.ns.Path()
			}
			changes := map[string]any{"prevResult": p.prev()}
			for key, value := range tt.changes {
				changes[key] = value
			}
			if tt.id == "" {
				tt.id = "a"
			}
			_, err := l.run(call{Command: "ADD", ID: tt.id, Netns: tt.netns, Stdin: conf(changes)})
			if got := err.String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if diff := cmp.Diff(before, l.state()); diff != "" {
				t.Errorf("state (-before +after):\n%s", diff)
			}
		})
	}
}

func indexOf(l *lab, name string) (index int) {
	l.inNode(func() error {
		link, err := netlink.LinkByName(name)
		if err == nil {
			index = link.Attrs().Index
		}
		return err
	})
	return index
}

func setDown(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetDown(link)
}
