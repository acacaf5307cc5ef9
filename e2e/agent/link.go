package agent

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
)

// Link is an interface and its addresses.
type Link struct {
	Name string `json:"name"`
	// Kind is the driver as `ip -d link` names it: "veth", "macvlan", "bridge", …; "device" for hardware.
	Kind string `json:"kind"`
	// Parent is the name of the lower device if it is in the same namespace; ParentIndex is its index in its own
	// namespace.
	Parent      string `json:"parent,omitempty"`
	ParentIndex int    `json:"parentIndex,omitempty"`
	// Isolated says that a macvlan is in a mode that separates it from its siblings (private, vepa).
	Isolated bool   `json:"isolated,omitempty"`
	Index    int    `json:"index"`
	MAC      string `json:"mac"`
	MTU      int    `json:"mtu"`
	Up       bool   `json:"up"`
	// Addresses are in CIDR form, without link-local ones.
	Addresses []string `json:"addresses,omitempty"`
}

// Prefixes returns the addresses, without those that cannot be parsed.
func (l *Link) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range l.Addresses {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			all = append(all, prefix)
		}
	}
	return all
}

// Links lists the interfaces of a namespace.
func (s *Server) Links(path string, links *[]Link) error {
	*links = []Link{}
	return inNamespace(path, func() error {
		list, err := netlinksafe.LinkList()
		if err != nil {
			return err
		}
		byIndex := map[int]string{}
		for _, l := range list {
			byIndex[l.Attrs().Index] = l.Attrs().Name
		}
		addresses, err := netlinksafe.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, l := range list {
			attrs := l.Attrs()
			link := Link{
				Name: attrs.Name, Kind: l.Type(), Index: attrs.Index, ParentIndex: attrs.ParentIndex,
				MAC: attrs.HardwareAddr.String(), MTU: attrs.MTU, Up: attrs.Flags&net.FlagUp != 0,
			}
			if m, ok := l.(*netlink.Macvlan); ok {
				link.Isolated = m.Mode == netlink.MACVLAN_MODE_PRIVATE || m.Mode == netlink.MACVLAN_MODE_VEPA
			}
			if attrs.NetNsID < 0 {
				link.Parent = byIndex[attrs.ParentIndex]
			}
			for _, a := range addresses {
				// An IPAM plugin may assign 169.254.0.0/16; the kernel itself adds fe80::/10.
				if a.LinkIndex == attrs.Index && (a.IP.To4() != nil || !a.IP.IsLinkLocalUnicast()) {
					link.Addresses = append(link.Addresses, a.IPNet.String())
				}
			}
			*links = append(*links, link)
		}
		return nil
	})
}

// SetLinkArgs name an interface of a namespace and say whether it is to be up.
type SetLinkArgs struct {
	Netns string `json:"netns"`
	Name  string `json:"name"`
	Up    bool   `json:"up"`
}

// SetLink sets an interface up or down, if it is not so already.
func (s *Server) SetLink(args SetLinkArgs, _ *None) error {
	return onLink(args.Netns, args.Name, func(link netlink.Link) error {
		set := netlink.LinkSetDown
		if args.Up {
			set = netlink.LinkSetUp
		}
		if err := set(link); err != nil {
			return fmt.Errorf("link %s: %w", args.Name, err)
		}
		return nil
	})
}

// onLink does something with an interface of a namespace.
func onLink(netns, name string, do func(link netlink.Link) error) error {
	return inNamespace(netns, func() error {
		link, err := netlinksafe.LinkByName(name)
		if err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
		return do(link)
	})
}

// SetMACArgs name an interface of a namespace and its new MAC.
type SetMACArgs struct {
	Netns string `json:"netns"`
	Name  string `json:"name"`
	MAC   string `json:"mac"`
}

// SetMAC gives an interface another MAC.
func (s *Server) SetMAC(args SetMACArgs, _ *None) error {
	return onLink(args.Netns, args.Name, func(link netlink.Link) error {
		mac, err := net.ParseMAC(args.MAC)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("link %s: MAC %s: %w", args.Name, mac, err)
		}
		return nil
	})
}

// RouteArgs describe a question for the route to an address.
type RouteArgs struct {
	Netns   string `json:"netns"`
	Address string `json:"address"`
}

// Route is the route by which the kernel would send a packet (`ip route get`).
type Route struct {
	Device  string `json:"device"`
	Gateway string `json:"gateway,omitempty"`
	Source  string `json:"source,omitempty"`
}

// String returns the route as `ip` prints it.
func (r Route) String() string {
	text := "dev " + r.Device
	if r.Gateway != "" {
		text = "via " + r.Gateway + " " + text
	}
	if r.Source != "" {
		text += " src " + r.Source
	}
	return text
}

// Route returns the route to an address; if there is none, an error that says so.
func (s *Server) Route(args RouteArgs, route *Route) error {
	return inNamespace(args.Netns, func() error {
		ip := net.ParseIP(args.Address)
		if ip == nil {
			return fmt.Errorf("address %q: want an IP address", args.Address)
		}
		routes, err := netlink.RouteGet(ip)
		if err != nil {
			return fmt.Errorf("route to %s: %w", args.Address, err)
		}
		link, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err != nil {
			return err
		}
		route.Device = link.Attrs().Name
		if routes[0].Gw != nil {
			route.Gateway = routes[0].Gw.String()
		}
		if routes[0].Src != nil {
			route.Source = routes[0].Src.String()
		}
		return nil
	})
}

// Hello is the first answer of an agent.
type Hello struct {
	PID      int    `json:"pid"`
	Hostname string `json:"hostname"`
	Kernel   string `json:"kernel"`
}

// Hello returns the version and kernel of the agent; a backend calls it to know that the agent runs.
func (s *Server) Hello(_ None, hello *Hello) error {
	hello.PID = os.Getpid()
	hello.Hostname, _ = os.Hostname()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	hello.Kernel = string(release[:max(0, len(release)-1)])
	return nil
}

// FindLink returns the link with a name.
func FindLink(links []Link, name string) (Link, bool) {
	for _, l := range links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}
