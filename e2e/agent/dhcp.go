package agent

import (
	"context"
	"errors"

	"github.com/cnitest/cnitest/e2e/lab/dhcp"
)

// DHCPArgs say where a DHCP server serves; an empty Netns means the agent's own namespace.
type DHCPArgs struct {
	Netns  string      `json:"netns"`
	Config dhcp.Config `json:"config"`
}

// ServeDHCP starts the agent's only DHCP server. It ends with the agent.
func (s *Server) ServeDHCP(args DHCPArgs, _ *None) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dhcp != nil {
		return errors.New("a DHCP server already runs")
	}
	return inNamespace(args.Netns, func() (err error) {
		s.dhcp, err = dhcp.Start(args.Config)
		return err
	})
}

// Leases returns the leases that clients of the DHCP server requested and released.
func (s *Server) Leases(_ None, reply *[]dhcp.Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dhcp == nil {
		return errors.New("no DHCP server runs")
	}
	*reply = s.dhcp.Leases()
	return nil
}

// ServeDHCP starts a DHCP server.
func (c *Client) ServeDHCP(ctx context.Context, args DHCPArgs) error {
	return tell(ctx, c, "ServeDHCP", args)
}

// Leases returns the leases that clients of the DHCP server requested and released.
func (c *Client) Leases(ctx context.Context) ([]dhcp.Lease, error) {
	return call[[]dhcp.Lease](ctx, c, "Leases", None{})
}
