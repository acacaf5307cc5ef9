package agent

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// Plan is what happens to a daemon under the tracer.
type Plan struct {
	// Injection is the fault; nil only observes.
	Injection *fault.Injection `json:"injection,omitempty"`
}

// AttendArgs are a daemon, and what happens to it from its start on.
type AttendArgs struct {
	DaemonArgs
	Plan
}

// Attended is how a daemon started under the tracer.
type Attended struct {
	// Ready means that it is ready, Ended that it ended before. It goes on if neither is true, since its time is over.
	Ready bool `json:"ready"`
	Ended bool `json:"ended"`
	// Did is what it did meanwhile.
	Did fault.Watched `json:"did"`
}

// attended is a daemon under the tracer.
type attended struct {
	watch *fault.Watch
	end   context.CancelFunc
	ended chan struct{} // closed when output and err are known
	// output is what the daemon printed.
	output string
	err    error
}

// AttendDaemon kills a daemon, and starts it again under the tracer.
func (s *Server) AttendDaemon(args AttendArgs, reply *Attended) error {
	var left string
	if err := errors.Join(s.LeaveDaemon(None{}, &left), s.KillDaemon(args.Name, nil)); err != nil {
		return err
	}
	program, err := args.prepare()
	if err != nil {
		return err
	}
	a := &attended{watch: &fault.Watch{}, ended: make(chan struct{})}
	if err := a.watch.Begin(args.Injection); err != nil {
		return err
	}
	running, end := context.WithCancel(context.Background())
	a.end = end
	s.mu.Lock()
	s.attended = a
	s.mu.Unlock()
	go func() {
		defer close(a.ended)
		trace, err := fault.Attend(running, fault.Command{
			Path: program, Args: args.Command[1:], Env: append(os.Environ(), args.Env...), Timeout: recordedFor,
		}, a.watch)
		a.output, a.err = strings.TrimSpace(trace.Call.Stdout+trace.Call.Stderr), err
	}()
	ctx, cancel := machinetime.WithTimeout(context.Background(), args.Within)
	defer cancel()
	defer func() { reply.Did = a.watch.State() }()
	d := &daemon{args: args.DaemonArgs}
	for {
		if d.ready(ctx) == nil {
			reply.Ready = true
			return nil
		}
		select {
		case <-a.ended:
			reply.Ended = true
			return a.err
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// LeaveDaemon kills the daemon that runs under the tracer, and returns what it printed. It is no error if there is
// none.
func (s *Server) LeaveDaemon(_ None, output *string) error {
	s.mu.Lock()
	a := s.attended
	s.attended = nil
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	a.watch.Release()
	a.end()
	<-a.ended
	reapOrphans()
	*output = a.output
	return a.err
}

// Attending begins anew with the daemon that runs under the tracer: from now on something else happens to it, or
// nothing.
func (s *Server) Attending(plan Plan, _ *None) error {
	return s.withAttended(func(w *fault.Watch) error { return w.Begin(plan.Injection) })
}

// DaemonDid returns what the daemon under the tracer has done since then.
func (s *Server) DaemonDid(_ None, did *fault.Watched) error {
	return s.withAttended(func(w *fault.Watch) error {
		*did = w.State()
		return nil
	})
}

// ReleaseDaemon lets the daemon's thread go on that is held.
func (s *Server) ReleaseDaemon(None, *None) error {
	return s.withAttended(func(w *fault.Watch) error {
		w.Release()
		return nil
	})
}

func (s *Server) withAttended(do func(*fault.Watch) error) error {
	s.mu.Lock()
	a := s.attended
	s.mu.Unlock()
	if a == nil {
		return errors.New("no daemon runs under the tracer")
	}
	return do(a.watch)
}

// Hold runs a plugin that is stopped before its call at a point, until it is released.
func (s *Server) Hold(args FaultArgs, trace *fault.Trace) error {
	path, err := cni.FindPlugin(args.Plugin, args.BinDirs)
	if err != nil {
		return err
	}
	watch := &fault.Watch{}
	if err := watch.Begin(args.Injection); err != nil {
		return err
	}
	s.mu.Lock()
	s.held = watch
	s.mu.Unlock()
	defer reapOrphans()
	*trace, err = fault.Attend(context.Background(), fault.Command{
		Path: path, Env: cni.Environ(args.Env), Stdin: args.Stdin, Timeout: args.Timeout,
	}, watch)
	return err
}

// HeldDid returns what the plugin has done.
func (s *Server) HeldDid(_ None, did *fault.Watched) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		*did = s.held.State()
	}
	return nil
}

// ReleaseHeld lets the plugin go on.
func (s *Server) ReleaseHeld(None, *None) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		s.held.Release()
		s.held = nil
	}
	return nil
}
