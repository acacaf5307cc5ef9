package snapshot

import (
	"errors"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// tableChange writes something into one of the smaller tables of a network. It contains the expected difference.
type tableChange struct {
	name   string
	change func(testing.TB) error
	want   []string
}

func tableChanges(tb testing.TB) []tableChange {
	mac := parseMAC(tb, "02:00:00:00:00:77")
	network := &net.IPNet{IP: net.IPv4(198, 18, 0, 1).To4(), Mask: net.CIDRMask(32, 32)}
	return []tableChange{
		{"an action", func(tb testing.TB) error {
			action := netlink.NewMirredAction(link(tb, "eno1").Attrs().Index)
			action.Attrs().Index = 77
			request := nl.NewNetlinkRequest(unix.RTM_NEWACTION, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
			request.AddData(leading(make([]byte, 4)))
			list := nl.NewRtAttr(1, nil)
			check(tb, netlink.EncodeActions(list, []netlink.Action{action}))
			request.AddData(list)
			_, err := request.Execute(unix.NETLINK_ROUTE, 0)
			return err
		}, []string{"+ qdisc action mirred index 77"}},
		{"a zone of connections", func(testing.TB) error { return trackInZone(7) }, []string{"+ conntrack zone 7"}},
		{"an address that a link receives", func(tb testing.TB) error {
			return netlink.NeighAppend(&netlink.Neigh{
				LinkIndex: link(tb, "eno1").Attrs().Index, Family: unix.AF_BRIDGE, HardwareAddr: mac,
				State: unix.NUD_PERMANENT, Flags: unix.NTF_SELF,
			})
		}, []string{"+ fdb 02:00:00:00:00:77 dev eno1: self permanent"}},
		{"an entry of a bridge", func(tb testing.TB) error {
			return netlink.NeighAppend(&netlink.Neigh{
				LinkIndex: link(tb, "port").Attrs().Index, Family: unix.AF_BRIDGE, HardwareAddr: mac,
				State: unix.NUD_NOARP, Flags: unix.NTF_MASTER,
			})
		}, []string{"+ fdb 02:00:00:00:00:77 dev port: master br0 static"}},
		{"a multicast address", func(tb testing.TB) error {
			return netlink.NeighAppend(&netlink.Neigh{
				LinkIndex: link(tb, "eno1").Attrs().Index, Family: unix.AF_BRIDGE, HardwareAddr: parseMAC(tb,
					"01:00:5e:00:00:77"),
				State: unix.NUD_PERMANENT, Flags: unix.NTF_SELF,
			})
		}, []string{"+ multicast 01005e000077 dev eno1: users 1"}},
		{"a nexthop object", func(tb testing.TB) error {
			request := nl.NewNetlinkRequest(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
			request.AddData(leading{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0})
			request.AddData(nl.NewRtAttr(nexthopID, nl.Uint32Attr(77)))
			request.AddData(nl.NewRtAttr(nexthopDevice, nl.Uint32Attr(uint32(link(tb, "eno1").Attrs().Index))))
			request.AddData(nl.NewRtAttr(nexthopGateway, []byte{192, 168, 0, 9}))
			_, err := request.Execute(unix.NETLINK_ROUTE, 0)
			return err
		}, []string{"+ nexthop id 77: dev eno1 via 192.168.0.9"}},
		{"a policy of IPsec", func(testing.TB) error {
			return netlink.XfrmPolicyAdd(&netlink.XfrmPolicy{
				Src: network, Dst: network, Dir: netlink.XFRM_DIR_OUT, Priority: 7,
			})
		}, []string{"+ xfrm policy src 198.18.0.1/32 dst 198.18.0.1/32 dir dir out: priority 7 action allow"}},
		{"an ipset", func(testing.TB) error {
			if err := netlink.IpsetCreate("pods", "hash:ip", netlink.IpsetCreateOptions{}); err != nil {
				return err
			}
			return netlink.IpsetAdd("pods", &netlink.IPSetEntry{IP: net.IPv4(198, 18, 0, 1).To4()})
		}, []string{"+ ipset entry of pods 198.18.0.1", "+ ipset set pods: hash:ip"}},
	}
}

// isolatePort calls isolateNode and makes a bridge br0 with a port.
func isolatePort(tb testing.TB) {
	tb.Helper()
	isolateNode(tb)
	addVeth(tb, "port", "02:00:00:00:00:05", "pod")
	check(tb, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes(tb, "br0", "02:00:00:00:00:06")}))
	check(tb, netlink.LinkSetMaster(link(tb, "port"), link(tb, "br0")))
}

// TestTake_tables writes something into each of the smaller tables of a network. Removing what can be removed leaves
// nothing.
func TestTake_tables(t *testing.T) {
	for _, tt := range tableChanges(t) {
		t.Run(tt.name, func(t *testing.T) {
			isolatePort(t)
			opts := Options{Kinds: []string{Qdisc, Forwarding, Group, Nexthop, Xfrm, IPSet, Label, Zone}}
			before := take(t, opts)
			check(t, tt.change(t))
			changes := Diff(before, take(t, opts))
			if diff := cmp.Diff(lines(changes), tt.want); diff != "" {
				t.Errorf("changes (-got +want):\n%s", diff)
			}
			for _, c := range changes {
				if Revertible(c) == nil {
					check(t, Revert(t.Context(), c, opts))
				}
			}
		})
	}
}

// TestTake_tables_of_others checks that entries of the kernel itself are not items: the MAC of a port and, on a parent,
// the MAC of a macvlan in another namespace.
func TestTake_tables_of_others(t *testing.T) {
	isolateNode(t)
	opts := Options{Kinds: []string{Forwarding, Group, Nexthop, Xfrm, IPSet, Label, Zone}}
	before := take(t, opts)
	addMacvlan(t, "child", "02:00:00:00:00:08", "eno1")
	check(t, netlink.LinkSetUp(link(t, "child")))
	check(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes(t, "br0", "02:00:00:00:00:06")}))
	addVeth(t, "port", "02:00:00:00:00:05", "pod")
	check(t, netlink.LinkSetMaster(link(t, "port"), link(t, "br0")))
	if diff := cmp.Diff(lines(Diff(before, take(t, opts))), []string(nil)); diff != "" {
		t.Errorf("changes (-got +want):\n%s", diff)
	}
}

// TestTake_dying checks that a macvlan in a namespace that nothing holds any more, which the kernel has yet to remove,
// is no entry of its parent.
func TestTake_dying(t *testing.T) {
	isolateNode(t)
	opts := Options{Kinds: []string{Forwarding}}
	before := take(t, opts)
	for range 5 {
		own, err := netns.Get()
		check(t, err)
		pod, err := netns.New()
		check(t, err)
		check(t, netns.Set(own))
		addMacvlan(t, "child", "02:00:00:00:00:08", "eno1")
		check(t, netlink.LinkSetNsFd(link(t, "child"), int(pod)))
		check(t, netns.Set(pod))
		check(t, netlink.LinkSetUp(link(t, "child")))
		check(t, netns.Set(own))
		check(t, errors.Join(pod.Close(), own.Close()))
		if diff := cmp.Diff(lines(Diff(before, take(t, opts))), []string(nil)); diff != "" {
			t.Errorf("changes (-got +want):\n%s", diff)
		}
	}
}

// trackInZone tracks a connection in a zone.
func trackInZone(zone uint16) error {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	tuple := func(kind int, from, to byte) *nl.RtAttr {
		t := nl.NewRtAttr(unix.NLA_F_NESTED|kind, nil)
		ip := t.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
		ip.AddRtAttr(nl.CTA_IP_V4_SRC, []byte{198, 18, 0, from})
		ip.AddRtAttr(nl.CTA_IP_V4_DST, []byte{198, 18, 0, to})
		protocol := t.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
		protocol.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
		protocol.AddRtAttr(nl.CTA_PROTO_SRC_PORT, nl.BEUint16Attr(5000))
		protocol.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(5000))
		return t
	}
	request.AddData(tuple(nl.CTA_TUPLE_ORIG, 1, 2))
	request.AddData(tuple(nl.CTA_TUPLE_REPLY, 2, 1))
	request.AddData(nl.NewRtAttr(nl.CTA_TIMEOUT, nl.BEUint32Attr(3600)))
	request.AddData(nl.NewRtAttr(nl.CTA_ZONE, nl.BEUint16Attr(zone)))
	_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// TestTake_ports checks that a changed setting of a bridge's port is shown, and that a new port shows none.
func TestTake_ports(t *testing.T) {
	isolatePort(t)
	opts := Options{Kinds: []string{Link}}
	before := take(t, opts)
	check(t, netlink.LinkSetHairpin(link(t, "port"), true))
	check(t, netlink.LinkSetLearning(link(t, "port"), false))
	changes := Diff(before, take(t, opts))
	if len(changes) != 1 || changes[0].Item.Text != changes[0].Before+" hairpin 1 learning 0" {
		t.Errorf("got %v, want hairpin 1 and learning 0 of port", lines(changes))
	}
}
