package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/disk"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// files returns the log of what recorded programs do with files.
func (s *Server) files() *fault.Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		s.log = fault.NewLog()
	}
	return s.log
}

// Record runs a plugin and records what it does with files.
func (s *Server) Record(args PluginArgs, trace *fault.Trace) error {
	path, err := cni.FindPlugin(args.Plugin, args.BinDirs)
	if err != nil {
		return err
	}
	defer reapOrphans()
	command := fault.Command{Path: path, Env: cni.Environ(args.Env), Stdin: args.Stdin, Timeout: args.Timeout}
	*trace, err = fault.Record(context.Background(), command, s.files())
	return err
}

// RecordCommand runs a program, which needs no namespace of its own, and records what it does with files, in place of
// what was recorded before.
func (s *Server) RecordCommand(args CommandArgs, reply *CommandReply) error {
	if len(args.Argv) == 0 {
		return errors.New("command: want a program, got none")
	}
	program, err := findProgram(args.Argv[0], args.BinDirs)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	log := fault.NewLog()
	s.mu.Lock()
	s.log = log
	s.mu.Unlock()
	defer reapOrphans()
	trace, err := fault.Record(context.Background(), fault.Command{
		Path: program, Args: args.Argv[1:], Env: append(os.Environ(), args.Env...), Timeout: args.Timeout,
	}, log)
	*reply = CommandReply{
		Output:   trace.Call.Stdout + trace.Call.Stderr + trace.Call.Failure,
		ExitCode: trace.Call.ExitCode,
	}
	return err
}

// Recorded returns what was recorded until now.
func (s *Server) Recorded(_ None, recording *disk.Recording) error {
	*recording = s.files().Recording()
	return nil
}

// recordedFor is longer than any daemon is recorded.
const recordedFor = time.Hour

// RecordDaemon kills a daemon, starts it again under the tracer and returns when it is ready. It runs until the agent
// ends.
func (s *Server) RecordDaemon(args DaemonArgs, _ *None) error {
	if err := s.KillDaemon(args.Name, nil); err != nil {
		return err
	}
	program, err := args.prepare()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		trace, err := fault.Record(context.Background(), fault.Command{
			Path: program, Args: args.Command[1:], Env: append(os.Environ(), args.Env...), Timeout: recordedFor,
		}, s.files())
		if err == nil {
			err = fmt.Errorf("it ended: %s", strings.TrimSpace(trace.Call.Stderr+" "+trace.Call.Failure))
		}
		ended <- err
	}()
	ctx, cancel := machinetime.WithTimeout(context.Background(), args.Within)
	defer cancel()
	d := &daemon{args: args}
	for {
		err := d.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("daemon %s: %w", args.Name, err)
		case <-ctx.Done():
			return fmt.Errorf("daemon %s: not ready after %s: %w", args.Name, args.Within, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// LayOut makes the files of the node's disk those that are given, parents first: others that were written there are
// removed.
func (s *Server) LayOut(files []File, _ *None) error {
	var now []File
	if err := s.Disk(None{}, &now); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, tree := range s.options.Files {
		wanted[tree.Name] = true
	}
	for _, f := range files {
		wanted[f.Path] = true
	}
	for _, f := range slices.Backward(now) {
		if wanted[f.Path] || f.Deleted {
			continue
		}
		if err := os.RemoveAll(f.Path); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := s.WriteFile(f, nil); err != nil {
			return err
		}
	}
	return nil
}
