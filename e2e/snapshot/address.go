package snapshot

import (
	"fmt"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addressFlags are the flags that ip shows. One bit has two names: secondary for IPv4, temporary for IPv6.
var addressFlags = []flag{
	{unix.IFA_F_NODAD, "nodad"},
	{unix.IFA_F_OPTIMISTIC, "optimistic"},
	{unix.IFA_F_HOMEADDRESS, "home"},
	{unix.IFA_F_DEPRECATED, "deprecated"},
	{unix.IFA_F_TENTATIVE, "tentative"},
	{unix.IFA_F_DADFAILED, "dadfailed"},
	{unix.IFA_F_MANAGETEMPADDR, "mngtmpaddr"},
	{unix.IFA_F_NOPREFIXROUTE, "noprefixroute"},
	{unix.IFA_F_MCAUTOJOIN, "autojoin"},
	{unix.IFA_F_STABLE_PRIVACY, "stable-privacy"},
}

func (n network) takeAddresses() ([]object, error) {
	// netlinksafe does not wrap AddrList of a handle; this one opens a socket in the thread's namespace, which is n's.
	addrs, err := netlinksafe.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	objects := make([]object, 0, len(addrs))
	for _, a := range addrs {
		name := fmt.Sprintf("%s dev %s", a.IPNet, n.name(a.LinkIndex))
		objects = append(objects, object{
			Item:   Item{Name: name, Text: addressText(a)},
			remove: func() error { return n.handle.AddrDel(nil, &a) },
		})
	}
	return objects, nil
}

// addressText returns what `ip address` shows. Lifetimes count down, so it only says whether there is one.
func addressText(a netlink.Addr) string {
	w := words{"inet"}
	secondary := "secondary"
	if a.IP.To4() == nil {
		w, secondary = words{"inet6"}, "temporary"
	}
	w.addf(a.Peer != nil, "peer %s", a.Peer)
	w.addf(len(a.Broadcast) > 0, "brd %s", a.Broadcast)
	w.add("scope", scopeName(netlink.Scope(a.Scope)))
	w.addf(a.Flags&unix.IFA_F_SECONDARY != 0, "%s", secondary)
	w.addf(a.Flags&unix.IFA_F_PERMANENT == 0, "dynamic")
	w.addFlags(uint32(a.Flags), addressFlags)
	w.addf(a.Label != "", "label %s", a.Label)
	return w.String()
}

// scopeName returns ip's word for a scope, or a number if there is none.
func scopeName(s netlink.Scope) string {
	switch s {
	case netlink.SCOPE_UNIVERSE:
		return "global"
	case netlink.SCOPE_SITE, netlink.SCOPE_LINK, netlink.SCOPE_HOST, netlink.SCOPE_NOWHERE:
		return s.String()
	}
	return fmt.Sprint(uint8(s))
}
