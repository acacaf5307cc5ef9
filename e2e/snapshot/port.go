package snapshot

import (
	"encoding/binary"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// portFlags are the settings of a bridge's port that plugins choose, with the words of `bridge link`.
var portFlags = []struct {
	attribute uint16
	name      string
	byDefault byte
}{
	{nl.IFLA_BRPORT_MODE, "hairpin", 0},
	{nl.IFLA_BRPORT_GUARD, "guard", 0},
	{nl.IFLA_BRPORT_PROTECT, "root_block", 0},
	{nl.IFLA_BRPORT_FAST_LEAVE, "fastleave", 0},
	{nl.IFLA_BRPORT_LEARNING, "learning", 1},
	{nl.IFLA_BRPORT_UNICAST_FLOOD, "flood", 1},
	{nl.IFLA_BRPORT_PROXYARP, "proxy_arp", 0},
	{nl.IFLA_BRPORT_PROXYARP_WIFI, "proxy_arp_wifi", 0},
	{nl.IFLA_BRPORT_MCAST_FLOOD, "mcast_flood", 1},
	{nl.IFLA_BRPORT_BCAST_FLOOD, "bcast_flood", 1},
	{nl.IFLA_BRPORT_NEIGH_SUPPRESS, "neigh_suppress", 0},
	{nl.IFLA_BRPORT_ISOLATED, "isolated", 0},
	{nl.IFLA_BRPORT_VLAN_TUNNEL, "vlan_tunnel", 0},
}

// portSettings returns, by the index of the link, how the ports of bridges differ from new ones.
func (n network) portSettings() (map[int]words, error) {
	if !slices.ContainsFunc(n.links, func(l netlink.Link) bool { return l.Attrs().MasterIndex != 0 }) {
		return nil, nil
	}
	settings := map[int]words{}
	err := eachProtocolInfo(unix.AF_BRIDGE, func(index int, _ []byte, port []byte) {
		var w words
		for _, flag := range portFlags {
			for _, value := range nestedOf(port, flag.attribute) {
				w.addf(len(value) == 1 && value[0] != flag.byDefault, "%s %d", flag.name, value[0])
			}
		}
		settings[index] = w
	})
	return settings, err
}

// eachProtocolInfo reads what a family knows of links (IFLA_PROTINFO), and calls see for each link with its index and
// all its attributes.
func eachProtocolInfo(family int, see func(index int, attributes, info []byte)) error {
	messages, err := dump(unix.NETLINK_ROUTE, unix.RTM_GETLINK, nl.NewIfInfomsg(family).Serialize())
	for _, m := range messages {
		if len(m) < unix.SizeofIfInfomsg {
			continue
		}
		index, attributes := int(binary.NativeEndian.Uint32(m[4:])), m[unix.SizeofIfInfomsg:]
		for _, info := range nestedOf(attributes, unix.IFLA_PROTINFO) {
			see(index, attributes, info)
		}
	}
	return err
}
