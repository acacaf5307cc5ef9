package snapshot

import (
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkFlags are the flags that ip shows. RUNNING is left out, since the state says the same.
var linkFlags = []flag{
	{unix.IFF_LOOPBACK, "LOOPBACK"},
	{unix.IFF_BROADCAST, "BROADCAST"},
	{unix.IFF_POINTOPOINT, "POINTOPOINT"},
	{unix.IFF_MULTICAST, "MULTICAST"},
	{unix.IFF_NOARP, "NOARP"},
	{unix.IFF_ALLMULTI, "ALLMULTI"},
	{unix.IFF_PROMISC, "PROMISC"},
	{unix.IFF_MASTER, "MASTER"},
	{unix.IFF_SLAVE, "SLAVE"},
	{unix.IFF_DYNAMIC, "DYNAMIC"},
	{unix.IFF_UP, "UP"},
	{unix.IFF_LOWER_UP, "LOWER_UP"},
}

func (n network) takeLinks() ([]object, error) {
	ports, err := n.portSettings()
	if err != nil {
		return nil, err
	}
	objects := make([]object, 0, len(n.links))
	for _, link := range n.links {
		text := n.linkText(link, ports)
		objects = append(objects, object{
			Item:    Item{Name: link.Attrs().Name, Text: text},
			remove:  func() error { return n.handle.LinkDel(link) },
			restore: func(before string) error { return n.restoreLink(link, text, before) },
		})
	}
	return objects, nil
}

// linkText returns what `ip -d link` shows, in the order of ip where ip has one.
func (n network) linkText(link netlink.Link, ports map[int]words) string {
	a := link.Attrs()
	var flags, w words
	flags.addFlags(a.RawFlags, linkFlags)
	w.add("<" + strings.Join(flags, ",") + ">")
	w.addf(true, "mtu %d", a.MTU)
	w.addf(a.MasterIndex != 0, "master %s", n.name(a.MasterIndex))
	w.addf(true, "state %s group %d qlen %d link/%s", strings.ToUpper(a.OperState.String()), a.Group, a.TxQLen,
		a.EncapType)
	w.addf(len(a.HardwareAddr) > 0, "%s", a.HardwareAddr)
	switch {
	case a.NetNsID >= 0:
		// The index belongs to another namespace, where the peer or parent may have any name.
		w.add("parent in another namespace")
	case a.ParentIndex != 0 && a.ParentIndex != a.Index:
		w.addf(true, "parent %s", n.name(a.ParentIndex))
	}
	w.addf(a.Promisc != 0, "promiscuity %d", a.Promisc)
	w.addf(a.Allmulti != 0, "allmulti %d", a.Allmulti)
	w.addf(link.Type() != "device", "%s", linkKind(link))
	w.add(ports[a.Index]...)
	w.addf(a.Alias != "", "alias %q", a.Alias)
	for _, name := range a.AltNames {
		w.add("altname", name)
	}
	w.addf(a.Xdp != nil && a.Xdp.Attached, "xdp")
	return w.String()
}

// macvlanModes are ip's words for the modes of macvlan and macvtap.
var macvlanModes = map[netlink.MacvlanMode]string{
	netlink.MACVLAN_MODE_PRIVATE:  "private",
	netlink.MACVLAN_MODE_VEPA:     "vepa",
	netlink.MACVLAN_MODE_BRIDGE:   "bridge",
	netlink.MACVLAN_MODE_PASSTHRU: "passthru",
	netlink.MACVLAN_MODE_SOURCE:   "source",
}

// linkKind returns the kind of a link, and those of its settings that plugins choose.
func linkKind(link netlink.Link) string {
	w := words{link.Type()}
	switch l := link.(type) {
	case *netlink.Macvlan:
		w.add("mode", macvlanModes[l.Mode])
	case *netlink.Macvtap:
		w.add("mode", macvlanModes[l.Mode])
	case *netlink.IPVlan:
		w.addf(true, "mode %d flag %d", l.Mode, l.Flag)
	case *netlink.Vlan:
		w.addf(true, "protocol %s id %d", l.VlanProtocol, l.VlanId)
	case *netlink.Vxlan:
		w.addf(true, "id %d port %d", l.VxlanId, l.Port)
		w.addf(l.Group != nil, "remote %s", l.Group)
		w.addf(l.SrcAddr != nil, "local %s", l.SrcAddr)
		w.addf(!l.Learning, "nolearning")
	case *netlink.Bridge:
		w.addf(l.VlanFiltering != nil, "vlan_filtering %t", l.VlanFiltering != nil && *l.VlanFiltering)
		w.addf(l.MulticastSnooping != nil, "mcast_snooping %t", l.MulticastSnooping != nil && *l.MulticastSnooping)
	case *netlink.Vrf:
		w.addf(true, "table %d", l.Table)
	case *netlink.Tuntap:
		w.addf(true, "mode %d flags %#x owner %d", l.Mode, l.Flags, l.Owner)
	case *netlink.Bond:
		w.addf(true, "mode %s", l.Mode)
	}
	return w.String()
}
