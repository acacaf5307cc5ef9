package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/probe"
)

// AttackArgs describe an attack from a namespace.
type AttackArgs struct {
	Netns  string       `json:"netns"`
	Attack probe.Attack `json:"attack"`
}

// attackWithin limits how long the control of an attack may take to be harmed.
const attackWithin = 10 * time.Second

// Attack sends an attack and returns the names of the links that it used. An error says that this machine cannot tell
// what an attack does.
func (s *Server) Attack(args AttackArgs, links *[]string) error {
	ctx, cancel := machinetime.WithTimeout(context.Background(), attackWithin)
	defer cancel()
	used, err := args.Attack.Send(ctx, args.Netns)
	*links = append([]string{}, used...)
	return err
}

// Attack sends an attack from a namespace and returns the names of the links that it used.
func (c *Client) Attack(ctx context.Context, args AttackArgs) ([]string, error) {
	return call[[]string](ctx, c, "Attack", args)
}

// TrapArgs describe a trap in a namespace, for packets that its sockets get or for all frames.
type TrapArgs struct {
	Netns  string `json:"netns"`
	Frames bool   `json:"frames"`
	// Asks are addresses to which the sockets send something at the start.
	Asks []netip.Addr `json:"asks,omitempty"`
	// Tracks makes the kernel track connections until the trap ends.
	Tracks bool `json:"tracks,omitempty"`
}

// StartTrap sets a trap and returns its id.
func (s *Server) StartTrap(args TrapArgs, id *int) error {
	trap, err := probe.StartTrap(args.Netns, args.Frames)
	if err != nil {
		return err
	}
	if args.Tracks {
		err = trap.Track(args.Netns)
	}
	if err = errors.Join(err, trap.Ask(args.Asks)); err != nil {
		trap.Stop()
		return errors.Join(err, trap.Untrack())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	*id = s.nextID
	s.traps[*id] = trap
	return nil
}

// StartTrap sets a trap in a namespace and returns its id.
func (c *Client) StartTrap(ctx context.Context, args TrapArgs) (int, error) {
	return call[int](ctx, c, "StartTrap", args)
}

// StopTrap ends a trap and returns what arrived.
func (s *Server) StopTrap(id int, seen *[]probe.Trapped) error {
	s.mu.Lock()
	trap, ok := s.traps[id]
	delete(s.traps, id)
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("trap %d: not set", id)
	}
	*seen = append([]probe.Trapped{}, trap.Stop()...)
	return trap.Untrack()
}

// StopTrap ends a trap and returns what arrived.
func (c *Client) StopTrap(ctx context.Context, id int) ([]probe.Trapped, error) {
	return call[[]probe.Trapped](ctx, c, "StopTrap", id)
}

// Connections returns the connections that the kernel has seen since a trap that tracks them was set.
func (s *Server) Connections(id int, known *[]probe.Connection) error {
	s.mu.Lock()
	trap, ok := s.traps[id]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("trap %d: not set", id)
	}
	found, err := trap.Connections()
	*known = append([]probe.Connection{}, found...)
	return err
}

// Connections returns the connections that the kernel has seen since a trap that tracks them was set.
func (c *Client) Connections(ctx context.Context, trap int) ([]probe.Connection, error) {
	return call[[]probe.Connection](ctx, c, "Connections", trap)
}

// KnownNeighboursArgs name a namespace and addresses.
type KnownNeighboursArgs struct {
	Netns string       `json:"netns"`
	Of    []netip.Addr `json:"of"`
}

// KnownNeighbours returns the addresses for which the namespace keeps a neighbour entry, each with its link.
func (s *Server) KnownNeighbours(args KnownNeighboursArgs, known *[]string) error {
	found, err := probe.KnownNeighbours(args.Netns, args.Of)
	*known = append([]string{}, found...)
	return err
}

// KnownNeighbours returns the addresses for which a namespace keeps a neighbour entry, each with its link.
func (c *Client) KnownNeighbours(ctx context.Context, args KnownNeighboursArgs) ([]string, error) {
	return call[[]string](ctx, c, "KnownNeighbours", args)
}
