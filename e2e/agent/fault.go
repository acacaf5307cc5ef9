package agent

import (
	"context"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// FaultArgs are one execution of a plugin under the tracer.
type FaultArgs struct {
	PluginArgs
	// Injection is the fault; nil only observes.
	Injection *fault.Injection `json:"injection,omitempty"`
}

// CanTrace says why plugins cannot be traced on this node; empty when they can.
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
	if args.Injection == nil {
		*trace, err = fault.Observe(context.Background(), command)
	} else {
		*trace, err = fault.Inject(context.Background(), command, *args.Injection)
	}
	return err
}
