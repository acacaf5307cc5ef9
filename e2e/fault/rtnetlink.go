package fault

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// describeRoute describes a message of rtnetlink, with the details that distinguish the steps of a plugin.
func describeRoute(kind uint16, body []byte, link func(uint32) string) string {
	object, size, describe := routeObject(kind)
	if object == "" {
		return fmt.Sprintf("rtnetlink message %d", kind)
	}
	verb := [...]string{"RTM_NEW", "RTM_DEL", "RTM_GET", "RTM_SET"}[kind%4]
	if describe == nil || len(body) < size {
		return verb + object
	}
	return words(verb+object, describe(body, attributesOf(body[size:]), link))
}

// describer describes an object by its fixed part and its attributes.
type describer func(body []byte, attributes map[uint16][]byte, link func(uint32) string) string

// routeObject returns the name of a message type's object, the length of its fixed part, and its describer.
func routeObject(kind uint16) (name string, size int, describe describer) {
	switch kind - kind%4 {
	case unix.RTM_NEWLINK:
		return "LINK", unix.SizeofIfInfomsg, describeLink
	case unix.RTM_NEWADDR:
		return "ADDR", unix.SizeofIfAddrmsg, describeAddress
	case unix.RTM_NEWROUTE:
		return "ROUTE", unix.SizeofRtMsg, describeOneRoute
	case unix.RTM_NEWNEIGH:
		return "NEIGH", unix.SizeofNdMsg, describeNeighbour
	case unix.RTM_NEWRULE:
		return "RULE", unix.SizeofRtMsg, describeRule
	case unix.RTM_NEWQDISC:
		return "QDISC", nl.SizeofTcMsg, describeTraffic
	case unix.RTM_NEWTCLASS:
		return "TCLASS", nl.SizeofTcMsg, describeTraffic
	case unix.RTM_NEWTFILTER:
		return "TFILTER", nl.SizeofTcMsg, describeTraffic
	}
	names := map[uint16]string{
		unix.RTM_NEWACTION: "ACTION", unix.RTM_NEWPREFIX: "PREFIX", unix.RTM_NEWNEIGHTBL: "NEIGHTBL",
		unix.RTM_NEWADDRLABEL: "ADDRLABEL",
		unix.RTM_NEWNETCONF:   "NETCONF", unix.RTM_NEWMDB: "MDB", unix.RTM_NEWNSID: "NSID", unix.RTM_NEWSTATS: "STATS",
		unix.RTM_NEWCHAIN:   "CHAIN",
		unix.RTM_NEWNEXTHOP: "NEXTHOP", unix.RTM_NEWLINKPROP: "LINKPROP", unix.RTM_NEWVLAN: "VLAN",
	}
	return names[kind-kind%4], 0, nil
}

func attributesOf(data []byte) map[uint16][]byte {
	attributes := map[uint16][]byte{}
	if list, err := netlink.UnmarshalAttributes(data); err == nil {
		for _, a := range list {
			attributes[a.Type&^(netlink.Nested|netlink.NetByteOrder)] = a.Data
		}
	}
	return attributes
}

func describeLink(body []byte, a map[uint16][]byte, link func(uint32) string) string {
	order := binary.NativeEndian
	index, flags, mask := order.Uint32(body[4:]), order.Uint32(body[8:]), order.Uint32(body[12:])
	name := textOf(a[unix.IFLA_IFNAME])
	if index != 0 {
		// The present name, and the new one.
		name = words(link(index), labelled("name", name))
	}
	state := ""
	switch {
	case mask&unix.IFF_UP == 0 && flags&unix.IFF_UP == 0:
	case flags&unix.IFF_UP != 0:
		state = "up"
	default:
		state = "down"
	}
	netns := ""
	if a[unix.IFLA_NET_NS_FD] != nil || a[unix.IFLA_NET_NS_PID] != nil {
		netns = "into another namespace"
	}
	mac := ""
	if index != 0 && a[unix.IFLA_ADDRESS] != nil {
		mac = "address"
	}
	info := attributesOf(a[unix.IFLA_LINKINFO])
	kind, peer := textOf(info[unix.IFLA_INFO_KIND]), ""
	if far := attributesOf(info[unix.IFLA_INFO_DATA])[nl.VETH_INFO_PEER]; kind == "veth" &&
		len(far) > unix.SizeofIfInfomsg {
		peer = textOf(attributesOf(far[unix.SizeofIfInfomsg:])[unix.IFLA_IFNAME])
	}
	return words(kind, name, describeLinkData(kind, attributesOf(info[unix.IFLA_INFO_DATA])), bridgeVLANs(body, a),
		labelled("peer", peer), labelled("link", linkOfAttribute(a[unix.IFLA_LINK], link)),
		labelled("master", linkOfAttribute(a[unix.IFLA_MASTER], link)), labelled("mtu", numberOf(a[unix.IFLA_MTU])),
		mac, netns, state)
}

// describeLinkData describes the settings of a link that kernels may lack, or that many plugins choose.
func describeLinkData(kind string, data map[uint16][]byte) string {
	switch kind {
	case "bridge":
		if v := data[nl.IFLA_BR_VLAN_FILTERING]; len(v) == 1 {
			return fmt.Sprintf("vlan_filtering %d", v[0])
		}
	case "vlan":
		if v := data[nl.IFLA_VLAN_ID]; len(v) == 2 {
			return fmt.Sprintf("id %d", binary.NativeEndian.Uint16(v))
		}
	case "vrf":
		return labelled("table", numberOf(data[nl.IFLA_VRF_TABLE]))
	}
	return ""
}

// bridgeVLANs returns the VLANs that a message adds to or removes from a port or a bridge (struct bridge_vlan_info:
// flags and ID).
func bridgeVLANs(body []byte, a map[uint16][]byte) string {
	if body[0] != unix.AF_BRIDGE {
		return ""
	}
	if v := attributesOf(a[unix.IFLA_AF_SPEC])[nl.IFLA_BRIDGE_VLAN_INFO]; len(v) >= 4 {
		return fmt.Sprintf("bridge vlan %d", binary.NativeEndian.Uint16(v[2:]))
	}
	return ""
}

func describeAddress(body []byte, a map[uint16][]byte, link func(uint32) string) string {
	address := a[unix.IFA_LOCAL]
	if address == nil {
		address = a[unix.IFA_ADDRESS]
	}
	return words(prefixOf(address, body[1], body[0]), "dev", link(binary.NativeEndian.Uint32(body[4:])))
}

func describeOneRoute(body []byte, a map[uint16][]byte, link func(uint32) string) string {
	table := numberOf(a[unix.RTA_TABLE])
	if table == "" {
		table = fmt.Sprint(body[4])
	}
	if table == fmt.Sprint(unix.RT_TABLE_MAIN) || table == "0" {
		table = ""
	}
	kinds := map[uint8]string{
		unix.RTN_LOCAL: "local", unix.RTN_BLACKHOLE: "blackhole",
		unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw",
	}
	return words(kinds[body[7]], prefixOf(a[unix.RTA_DST], body[1], body[0]),
		labelled("via", addressOf(a[unix.RTA_GATEWAY])),
		labelled("dev", linkOfAttribute(a[unix.RTA_OIF], link)), labelled("src", addressOf(a[unix.RTA_PREFSRC])),
		labelled("table", table))
}

func describeNeighbour(body []byte, a map[uint16][]byte, link func(uint32) string) string {
	proxy := ""
	if body[10]&unix.NTF_PROXY != 0 {
		proxy = "proxy"
	}
	return words(proxy, addressOf(a[unix.NDA_DST]), "dev", link(binary.NativeEndian.Uint32(body[4:])))
}

func describeRule(body []byte, a map[uint16][]byte, _ func(uint32) string) string {
	table := numberOf(a[unix.FRA_TABLE])
	if table == "" {
		table = fmt.Sprint(body[4])
	}
	part := func(label string, address []byte, length uint8) string {
		if address == nil {
			return ""
		}
		return label + " " + prefixOf(address, length, body[0])
	}
	return words(labelled("priority", numberOf(a[unix.FRA_PRIORITY])), part("from", a[unix.FRA_SRC], body[2]),
		part("to", a[unix.FRA_DST], body[1]),
		labelled("iif", textOf(a[unix.FRA_IIFNAME])), labelled("oif", textOf(a[unix.FRA_OIFNAME])),
		labelled("mark", numberOf(a[unix.FRA_FWMARK])), labelled("table", table))
}

func describeTraffic(body []byte, a map[uint16][]byte, link func(uint32) string) string {
	return words(textOf(a[nl.TCA_KIND]), "dev", link(binary.NativeEndian.Uint32(body[4:])))
}

func labelled(label, value string) string {
	if value == "" {
		return ""
	}
	return label + " " + value
}

func textOf(data []byte) string { return unix.ByteSliceToString(data) }

func numberOf(data []byte) string {
	if len(data) != 4 {
		return ""
	}
	return fmt.Sprint(binary.NativeEndian.Uint32(data))
}

func linkOfAttribute(data []byte, link func(uint32) string) string {
	if len(data) != 4 || binary.NativeEndian.Uint32(data) == 0 {
		return ""
	}
	return link(binary.NativeEndian.Uint32(data))
}

func addressOf(data []byte) string {
	address, ok := netip.AddrFromSlice(data)
	if !ok {
		return ""
	}
	return address.String()
}

// prefixOf returns a prefix, and "default" for the one of length 0.
func prefixOf(data []byte, length, family uint8) string {
	address, ok := netip.AddrFromSlice(data)
	switch {
	case ok && (length > 0 || !address.IsUnspecified()):
		return netip.PrefixFrom(address, int(length)).String()
	case family == unix.AF_INET6:
		return "default (IPv6)"
	}
	return "default"
}
