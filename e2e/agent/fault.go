package agent

import (
	"context"
	"errors"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// FaultArgs describe one execution of a plugin under the tracer.
type FaultArgs struct {
	PluginArgs
	// Injection is the fault; nil only observes.
	Injection *fault.Injection `json:"injection,omitempty"`
	// Reads observes calls that only look, too.
	Reads bool `json:"reads,omitempty"`
	// Explain lists what the kernel refused, instead of points and faults.
	Explain bool `json:"explain,omitempty"`
}

// CanTrace says why plugins cannot be traced on this node; empty if they can.
func (s *Server) CanTrace(_ None, reason *string) error {
	if err := fault.Available(); err != nil {
		*reason = err.Error()
	}
	return nil
}

// Trace runs a plugin's binary under the tracer, with a fault or without.
func (s *Server) Trace(args FaultArgs, trace *fault.Trace) error {
	path, err := cni.FindPlugin(args.Plugin, args.BinDirs)
	if err != nil {
		return err
	}
	command := fault.Command{Path: path, Env: cni.Environ(args.Env), Stdin: args.Stdin, Timeout: args.Timeout}
	defer reapOrphans()
	switch {
	case args.Explain:
		*trace, err = fault.Explain(context.Background(), command)
	case args.Reads && args.Injection == nil:
		*trace, err = fault.ObserveReads(context.Background(), command)
	case args.Injection == nil:
		*trace, err = fault.Observe(context.Background(), command)
	default:
		*trace, err = fault.Inject(context.Background(), command, *args.Injection)
	}
	return err
}

// InterleaveArgs describe two executions of a plugin that take turns.
type InterleaveArgs struct {
	Plugins  [2]PluginArgs  `json:"plugins"`
	Schedule fault.Schedule `json:"schedule"`
}

// Interleave runs two plugins' binaries under a schedule.
func (s *Server) Interleave(args InterleaveArgs, result *fault.Interleaving) error {
	var commands [2]fault.Command
	for i, p := range args.Plugins {
		path, err := cni.FindPlugin(p.Plugin, p.BinDirs)
		if err != nil {
			return err
		}
		commands[i] = fault.Command{Path: path, Env: cni.Environ(p.Env), Stdin: p.Stdin, Timeout: p.Timeout}
	}
	defer reapOrphans()
	var err error
	*result, err = fault.Interleave(context.Background(), commands, args.Schedule)
	return err
}

// CNIExplained is the outcome of a verb, each of whose calls ran under the tracer.
type CNIExplained struct {
	Outcome cni.Outcome `json:"outcome"`
	// Failed is the first call that failed; nil if none did.
	Failed *fault.Trace `json:"failed,omitempty"`
}

// ExplainCNI runs a verb through libcni with each plugin under the tracer.
func (s *Server) ExplainCNI(req cni.Request, reply *CNIExplained) error {
	defer s.order.enter(req)()
	defer reapOrphans()
	var failed error
	outcome, err := cni.RunBy(context.Background(), req, nil, func(ctx context.Context, path string, env []string,
		stdin []byte,
	) cni.Call {
		trace, err := fault.Explain(ctx, fault.Command{Path: path, Env: env, Stdin: stdin, Timeout: req.Timeout})
		failed = errors.Join(failed, err)
		if trace.Call.Failed() && reply.Failed == nil {
			reply.Failed = &trace
		}
		return trace.Call
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	reply.Outcome = *outcome
	return nil
}

// CNICosts is the outcome of a verb, and what each of its calls asked of the machine.
type CNICosts struct {
	Outcome cni.Outcome `json:"outcome"`
	// Costs correspond to Outcome.Calls.
	Costs []fault.Costs `json:"costs"`
}

// CostArgs are a verb whose calls are counted, or clocked.
type CostArgs struct {
	Request cni.Request `json:"request"`
	Count   bool        `json:"count,omitempty"`
}

// MeasureCNI runs a verb through libcni with each plugin under the tracer. Unlike CNI it waits for no other request.
func (s *Server) MeasureCNI(args CostArgs, reply *CNICosts) error {
	defer reapOrphans()
	measure := fault.Clock
	if args.Count {
		measure = fault.Count
	}
	var failed error
	outcome, err := cni.RunBy(context.Background(), args.Request, nil, func(ctx context.Context, path string,
		env []string, stdin []byte,
	) cni.Call {
		costs, err := measure(ctx, fault.Command{Path: path, Env: env, Stdin: stdin, Timeout: args.Request.Timeout})
		failed = errors.Join(failed, err)
		reply.Costs = append(reply.Costs, costs)
		return costs.Call
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	reply.Outcome = *outcome
	return nil
}
