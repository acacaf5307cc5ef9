package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/probe"
)

// ListenArgs describe a server in a namespace; it ends with the namespace or the agent.
type ListenArgs struct {
	Netns string           `json:"netns"`
	Spec  probe.ListenSpec `json:"spec"`
}

// Listen starts a server.
func (s *Server) Listen(args ListenArgs, _ *None) error {
	l, err := probe.Listen(args.Netns, args.Spec)
	if err == nil {
		s.keepListener(args.Netns, l)
	}
	return err
}

// keepListener keeps a server until Unlisten.
func (s *Server) keepListener(netns string, l *probe.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[netns] = append(s.listeners[netns], l)
}

// Unlisten ends the servers in a namespace, whose open sockets would keep it alive.
func (s *Server) Unlisten(netns string, _ *None) error {
	s.mu.Lock()
	listeners := s.listeners[netns]
	delete(s.listeners, netns)
	s.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
	return nil
}

// Unlisten ends the servers in a namespace, whose open sockets would keep it alive.
func (c *Client) Unlisten(ctx context.Context, netns string) error {
	return tell(ctx, c, "Unlisten", netns)
}

// ServeLoadArgs describe a server for loads in a namespace; it ends with the namespace or the agent.
type ServeLoadArgs struct {
	Netns string `json:"netns"`
	Port  uint16 `json:"port"`
}

// ServeLoad starts a server for loads.
func (s *Server) ServeLoad(args ServeLoadArgs, _ *None) error {
	l, err := probe.ServeLoad(args.Netns, args.Port)
	if err == nil {
		s.keepListener(args.Netns, l)
	}
	return err
}

// ServeLoad starts a server for loads in a namespace.
func (c *Client) ServeLoad(ctx context.Context, args ServeLoadArgs) error {
	return tell(ctx, c, "ServeLoad", args)
}

// LoadArgs describe a load from a namespace.
type LoadArgs struct {
	Netns string         `json:"netns"`
	Spec  probe.LoadSpec `json:"spec"`
}

// Load sends as fast as it can until the time of the load is over.
func (s *Server) Load(args LoadArgs, result *probe.LoadResult) (err error) {
	*result, err = probe.Load(context.Background(), args.Netns, args.Spec)
	return err
}

// Load sends from a namespace as fast as it can until the time of the load is over.
func (c *Client) Load(ctx context.Context, args LoadArgs) (probe.LoadResult, error) {
	return call[probe.LoadResult](ctx, c, "Load", args)
}

// ProbeArgs describe a probe from a namespace.
type ProbeArgs struct {
	Netns string     `json:"netns"`
	Spec  probe.Spec `json:"spec"`
}

// Probe runs a probe to its end.
func (s *Server) Probe(args ProbeArgs, result *probe.Result) (err error) {
	ctx := context.Background()
	*result, err = probe.Run(ctx, args.Netns, args.Spec)
	if err != nil || result.OK {
		return err
	}
	if control := s.control(); control != nil {
		if answer, err := control.Probe(ctx, args.Spec); err == nil {
			result.Control = &answer
		}
	}
	return nil
}

// control returns the control of the agent, which is made at the first call; nil if this machine cannot make one.
func (s *Server) control() *probe.Control {
	s.controlled.Do(func() {
		// Without a control, only the heartbeat shows what the machine did.
		s.bare, _ = probe.NewControl()
	})
	return s.bare
}

// Lateness returns by how much this agent's timers were late at most, since the time until now.
func (s *Server) Lateness(last time.Duration, worst *time.Duration) error {
	*worst = machinetime.Process().Worst(time.Now().Add(-last))
	return nil
}

// flow is a flow with the control that runs beside it; nil if there is none.
type flow struct{ subject, control *probe.Flow }

// FlowArgs describe a flow from a namespace.
type FlowArgs struct {
	Netns string         `json:"netns"`
	Spec  probe.FlowSpec `json:"spec"`
}

// StartFlow starts a flow and returns its id.
func (s *Server) StartFlow(args FlowArgs, id *int) error {
	control := s.control()
	f, err := probe.StartFlow(args.Netns, args.Spec)
	if err != nil {
		return err
	}
	var beside *probe.Flow
	if control != nil {
		beside, _ = control.StartFlow(args.Spec)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	*id = s.nextID
	s.flows[*id] = flow{f, beside}
	return nil
}

// StopFlow ends a flow and returns its result.
func (s *Server) StopFlow(id int, result *probe.FlowResult) error {
	s.mu.Lock()
	f, ok := s.flows[id]
	delete(s.flows, id)
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("flow %d: not running", id)
	}
	*result = f.subject.Stop()
	if f.control != nil {
		control := f.control.Stop()
		result.Control = &control
	}
	return nil
}

// CaptureArgs describe a capture in a namespace.
type CaptureArgs struct {
	Netns string      `json:"netns"`
	Match probe.Match `json:"match"`
}

// StartCapture starts a capture and returns its id.
func (s *Server) StartCapture(args CaptureArgs, id *int) error {
	c, err := probe.StartCapture(args.Netns, args.Match)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	*id = s.nextID
	s.captures[*id] = c
	return nil
}

// CaptureReply has what a capture saw, in the order of time.
type CaptureReply struct {
	Packets []probe.Packet `json:"packets"`
	// Unseen is the number of packets that are not among them; see probe.Capture.
	Unseen int `json:"unseen"`
}

// StopCapture ends a capture.
func (s *Server) StopCapture(id int, reply *CaptureReply) error {
	s.mu.Lock()
	c, ok := s.captures[id]
	delete(s.captures, id)
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("capture %d: not running", id)
	}
	reply.Packets = c.Stop()
	reply.Unseen = c.Unseen()
	return nil
}

// NeighbourArgs name an entry of a neighbour table.
type NeighbourArgs struct {
	Netns     string `json:"netns"`
	Interface string `json:"interface"`
	Address   string `json:"address"`
}

// NeighbourReply is the entry, if there is one.
type NeighbourReply struct {
	Found bool                 `json:"found"`
	Entry probe.NeighbourEntry `json:"entry"`
}

// Neighbour returns an entry.
func (s *Server) Neighbour(args NeighbourArgs, reply *NeighbourReply) (err error) {
	reply.Entry, reply.Found, err = probe.Neighbour(args.Netns, args.Interface, args.Address)
	return err
}

// AdvertiseArgs describe a router advertisement from an interface.
type AdvertiseArgs struct {
	Netns         string              `json:"netns"`
	Interface     string              `json:"interface"`
	Advertisement probe.Advertisement `json:"advertisement"`
}

// Advertise sends a router advertisement.
func (s *Server) Advertise(args AdvertiseArgs, _ *None) error {
	ctx, cancel := machinetime.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return probe.Advertise(ctx, args.Netns, args.Interface, args.Advertisement)
}
