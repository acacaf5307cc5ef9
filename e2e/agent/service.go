package agent

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/lab/kubeproxy"
	"github.com/cnitest/cnitest/e2e/service"
)

// ServicesArgs have all services of a cluster as one node's proxy sees them.
type ServicesArgs struct {
	Options  service.Options   `json:"options"`
	Services []service.Service `json:"services"`
	// Programs is the directory of kube-proxy, and Root the root directory of Debian's programs, for the dataplane
	// kube-proxy.
	Programs string `json:"programs,omitempty"`
	Root     string `json:"root,omitempty"`
}

// Services programs the node's proxy, replacing what it had.
func (s *Server) Services(args ServicesArgs, _ *None) error {
	if args.Options.Dataplane != kubeproxy.Dataplane {
		return service.Apply(context.Background(), args.Options, args.Services)
	}
	return inNamespace("", func() (err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.proxy == nil {
			if s.proxy, err = kubeproxy.Start(args.Programs, args.Root); err != nil {
				return err
			}
		}
		return s.proxy.Apply(context.Background(), args.Services)
	})
}

// Services programs the node's proxy, replacing what it had.
func (c *Client) Services(ctx context.Context, args ServicesArgs) error {
	return tell(ctx, c, "Services", args)
}

// AddressArgs describe an address for an interface of a namespace.
type AddressArgs struct {
	Netns     string       `json:"netns"`
	Interface string       `json:"interface"`
	Address   netip.Prefix `json:"address"`
	// Host gives the address the scope host: no packet leaves with it as its source.
	Host bool `json:"host,omitempty"`
	// NoDAD gives the interface an IPv6 address at once, without a look for others that have it: two that look at the
	// same time both lose it.
	NoDAD bool `json:"noDAD,omitempty"`
}

// AddAddress gives an interface an address, if it does not have it.
func (s *Server) AddAddress(args AddressArgs, _ *None) error {
	return inNamespace(args.Netns, func() error {
		link, err := netlink.LinkByName(args.Interface)
		if err != nil {
			return fmt.Errorf("link %s: %w", args.Interface, err)
		}
		address := &netlink.Addr{IPNet: netipx.PrefixIPNet(args.Address)}
		if args.Host {
			address.Scope = int(netlink.SCOPE_HOST)
		}
		if args.NoDAD && args.Address.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		return netlink.AddrReplace(link, address)
	})
}

// AddAddress gives an interface an address.
func (c *Client) AddAddress(ctx context.Context, args AddressArgs) error {
	return tell(ctx, c, "AddAddress", args)
}

// WayArgs describe a route through a gateway.
type WayArgs struct {
	Netns       string       `json:"netns"`
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway"`
}

// AddRoute adds or replaces a route.
func (s *Server) AddRoute(args WayArgs, _ *None) error {
	return inNamespace(args.Netns, func() error {
		route := &netlink.Route{Dst: netipx.PrefixIPNet(args.Destination), Gw: args.Gateway.AsSlice()}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("route %s via %s: %w", args.Destination, args.Gateway, err)
		}
		return nil
	})
}

// AddRoute adds or replaces a route.
func (c *Client) AddRoute(ctx context.Context, args WayArgs) error {
	return tell(ctx, c, "AddRoute", args)
}

// ForwardArgs describe a chain that drops forwarded packets.
type ForwardArgs struct {
	// Accept are addresses from and to which packets pass nevertheless.
	Accept []netip.Prefix `json:"accept"`
}

// DropForwarded makes a chain of the FORWARD hook with the policy drop, as other software on a node does.
func (s *Server) DropForwarded(args ForwardArgs, _ *None) error { return dropForwarded(args.Accept) }

// DropForwarded makes a chain of the FORWARD hook with the policy drop.
func (c *Client) DropForwarded(ctx context.Context, args ForwardArgs) error {
	return tell(ctx, c, "DropForwarded", args)
}

// RedirectArgs describe a REDIRECT rule of a namespace.
type RedirectArgs struct {
	Netns string `json:"netns"`
	Port  uint16 `json:"port"`
	To    uint16 `json:"to"`
}

// Redirect sends what arrives for a TCP port to another one.
func (s *Server) Redirect(args RedirectArgs, _ *None) error {
	return inNamespace(args.Netns, func() error { return redirect(args.Port, args.To) })
}

// Redirect sends what arrives for a TCP port of a namespace to another one.
func (c *Client) Redirect(ctx context.Context, args RedirectArgs) error {
	return tell(ctx, c, "Redirect", args)
}
