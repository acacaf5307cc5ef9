package agent

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// CNIReply is the outcome of a verb, and what each call changed where the request asked for a trace.
type CNIReply struct {
	Outcome cni.Outcome `json:"outcome"`
	// Changes correspond to Outcome.Calls, one list for each call. They are in one namespace at a time; the scope of
	// the pod is "pod".
	Changes [][]snapshot.Change `json:"changes,omitempty"`
}

// CNI runs a verb through libcni, after operations that must not run beside it.
func (s *Server) CNI(req cni.Request, reply *CNIReply) error {
	ctx := context.Background()
	defer s.order.enter(req)()
	var after func(cni.Call)
	if len(req.Trace) > 0 {
		options := s.snapshotOptions(SnapshotArgs{Kinds: req.Trace, Namespaces: map[string]string{"pod": req.Netns}})
		before, err := s.take(ctx, options)
		if err != nil {
			return err
		}
		after = func(cni.Call) {
			now, err := s.take(ctx, options)
			if err != nil {
				now = before
			}
			reply.Changes = append(reply.Changes, snapshot.Diff(before, now))
			before = now
		}
	}
	defer reapOrphans()
	outcome, err := cni.Run(ctx, req, after)
	if err != nil {
		return err
	}
	reply.Outcome = *outcome
	return nil
}

// PluginArgs describe one execution of a plugin outside of libcni.
type PluginArgs struct {
	Plugin  string   `json:"plugin"`
	BinDirs []string `json:"binDirs"`
	Env     []string `json:"env"`
	Stdin   []byte   `json:"stdin"`
	// StdinFrom is a file or directory of the node that is its standard input instead of Stdin; empty means Stdin.
	StdinFrom string `json:"stdinFrom,omitempty"`
	// Timeout is the time after which it is killed, in time that the machine gave; 0 means cni.DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Plugin runs one plugin's binary.
func (s *Server) Plugin(args PluginArgs, call *cni.Call) error {
	path, err := cni.FindPlugin(args.Plugin, args.BinDirs)
	if err != nil {
		return err
	}
	ctx, cancel := machinetime.WithTimeout(context.Background(), cmp.Or(args.Timeout, cni.DefaultTimeout))
	defer cancel()
	defer reapOrphans()
	if args.StdinFrom == "" {
		*call = cni.Exec(ctx, path, cni.Environ(args.Env), args.Stdin)
		return nil
	}
	stdin, err := os.Open(args.StdinFrom)
	if err != nil {
		return err
	}
	defer stdin.Close()
	*call = cni.ExecOn(ctx, path, cni.Environ(args.Env), stdin)
	return nil
}

// SnapshotArgs say which part of a node's state is wanted.
type SnapshotArgs struct {
	// Kinds are kinds of package snapshot; empty means all.
	Kinds []string `json:"kinds,omitempty"`
	// Namespaces are further network namespaces, by the scope that their items get.
	Namespaces map[string]string `json:"namespaces,omitempty"`
}

func (s *Server) snapshotOptions(args SnapshotArgs) snapshot.Options {
	if len(args.Kinds) == 0 {
		args.Kinds = s.options.Kinds
	}
	return snapshot.Options{Kinds: args.Kinds, Namespaces: args.Namespaces, Files: s.options.Files}
}

// Snapshot takes the state of the node.
func (s *Server) Snapshot(args SnapshotArgs, state *snapshot.State) (err error) {
	*state, err = s.take(context.Background(), s.snapshotOptions(args))
	return err
}

// RevertArgs have a change, and the network namespaces by scope that its snapshots were taken with.
type RevertArgs struct {
	Change     snapshot.Change   `json:"change"`
	Namespaces map[string]string `json:"namespaces,omitempty"`
}

// Revert undoes one change that snapshots showed. snapshot.Revertible says beforehand whether that is possible.
func (s *Server) Revert(args RevertArgs, _ *None) error {
	return snapshot.Revert(context.Background(), args.Change, s.snapshotOptions(SnapshotArgs{
		Namespaces: args.Namespaces,
	}))
}

// take takes a state in which no orphan has just ended, unless orphans never stop ending.
func (s *Server) take(ctx context.Context, options snapshot.Options) (state snapshot.State, err error) {
	reapOrphans()
	for range 10 {
		if state, err = snapshot.Take(ctx, options); err != nil || reapOrphans() == 0 {
			break
		}
	}
	state.Items = s.withoutOwned(state.Items)
	return state, err
}
