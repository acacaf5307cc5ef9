package agent

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// LinkKinds returns the given kinds of links that this kernel cannot make, even after loading a module. It tries each
// in a temporary namespace.
func (s *Server) LinkKinds(kinds []string, missing *[]string) error {
	*missing = []string{}
	return inNewNamespace(netns.New, func() error {
		parent, err := makeParent()
		if err != nil {
			return err
		}
		for i, kind := range kinds {
			if err := netlink.LinkAdd(sampleLink(fmt.Sprintf("sample%d", i), kind, parent)); errors.Is(err,
				unix.EOPNOTSUPP) {
				*missing = append(*missing, kind)
			}
		}
		return nil
	})
}

func makeParent() (int, error) {
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "parent"}, PeerName: "peer"})
	if err != nil {
		return 0, fmt.Errorf("veth: %w", err)
	}
	link, err := netlink.LinkByName("parent")
	if err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}

func sampleLink(name, kind string, parent int) netlink.Link {
	attrs := netlink.LinkAttrs{Name: name, ParentIndex: parent}
	switch kind {
	case "macvlan":
		return &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	case "ipvlan":
		return &netlink.IPVlan{LinkAttrs: attrs, Mode: netlink.IPVLAN_MODE_L2}
	case "vlan":
		return &netlink.Vlan{LinkAttrs: attrs, VlanId: 2}
	case "vrf":
		attrs.ParentIndex = 0
		return &netlink.Vrf{LinkAttrs: attrs, Table: 1000}
	}
	attrs.ParentIndex = 0
	return &netlink.GenericLink{LinkAttrs: attrs, LinkType: kind}
}
