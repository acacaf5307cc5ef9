package cri

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/report"
)

const (
	// statusEvery is how often kubelets ask for the status.
	statusEvery = 5 * time.Second
	// statusLimit is 1 % of a processor.
	statusLimit = statusEvery / 100
	// statusRatio is how many times as much as plugins that do nothing a chain takes that is to blame for exceeding the
	// limit, as for the time of its other verbs (TIM-1).
	statusRatio = 10
	// polled is how often containerd is asked for its status, in turn with each of two chains, and turns how often they
	// take turns.
	polled, turns = 15, 3
	// delLimit is what is left for a pod at the shutdown of a node.
	delLimit = 1500 * time.Millisecond
	// starts is how many pods are started one after the other.
	starts = 10
)

func (l *lab) statusPolled(ctx context.Context) error {
	comes := make(chan error, 1)
	go func() {
		p, err := l.attachPair(ctx, "asker", "passing")
		comes <- errors.Join(err, l.detachPair(ctx, p, "asker", "passing"))
	}()
	if err := errors.Join(l.poll(ctx), <-comes); err != nil {
		return err
	}
	return l.statusCosts(ctx)
}

// poll asks for the status again and again, and wants the network to be ready each time.
func (l *lab) poll(ctx context.Context) error {
	for i := range polled {
		conditions, err := l.runtimes[0].Conditions(ctx)
		if err == nil && conditions[networkReady] != "" {
			err = fmt.Errorf("status %d of %d: %s: %s", i+1, polled, networkReady, conditions[networkReady])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// statusCosts compares what a status costs with the chain under test and with as many plugins that do nothing.
func (l *lab) statusCosts(ctx context.Context) (err error) {
	file, err := conflist.Parse("conflist", l.Nodes()[0].Conflist)
	if err != nil {
		return err
	}
	if !cni.Status.In(file.CNIVersion) {
		return nil // nobody calls STATUS
	}
	nothing, err := l.nothing(ctx, file)
	if err != nil {
		return err
	}
	defer func() {
		if e := l.Nodes()[0].Agent.RemoveFile(context.WithoutCancel(ctx), nothingPath); err == nil {
			err = e
		}
	}()
	var ours, theirs time.Duration
	for range turns {
		took, err := l.pollCost(ctx)
		if err != nil {
			return err
		}
		ours += took
		if err := l.withConflist(ctx, func(list map[string]any) { list["plugins"] = nothing }, func() error {
			took, err = l.pollCost(ctx)
			return err
		}); err != nil {
			return err
		}
		theirs += took
	}
	ours, theirs = ours/(polled*turns), theirs/(polled*turns)
	l.mu.Lock()
	l.figures = append(l.figures, report.Figure{
		What: "processor time of a Status of containerd, and so of STATUS of each plugin, every 5 s (limit: 1 % of a " +
			"processor)",
		Times: polled * turns, MedianSeconds: ours.Seconds(), LimitSeconds: statusLimit.Seconds(),
	}, report.Figure{
		What:  "processor time of a Status with as many plugins that do nothing",
		Times: polled * turns, MedianSeconds: theirs.Seconds(),
	})
	l.mu.Unlock()
	if ours > statusLimit && ours > statusRatio*theirs {
		return fmt.Errorf("a status, which a kubelet asks for every %s, takes %s of a processor, %.1f %% of one; with "+
			"as many plugins that do nothing it takes %s", statusEvery, ours.Round(time.Millisecond),
			100*ours.Seconds()/statusEvery.Seconds(), theirs.Round(time.Millisecond))
	}
	return nil
}

// nothingPath is a plugin that does nothing.
const nothingPath = stub.Dir + "/cnitest-nothing"

// nothing returns as many plugins as a chain has that do nothing. They are calls of VERSION of the program that answers
// it fastest, of those of the chain and the lab's own: a program of the same kind as the plugins that starts, and ends.
func (l *lab) nothing(ctx context.Context, file *conflist.File) (plugins []any, err error) {
	node := l.Nodes()[0]
	dirs := append(slices.Clone(node.BinDirs), stub.Dir)
	var program string
	fastest := time.Duration(math.MaxInt64)
	for _, name := range append(file.Types(), stub.Chained) {
		for range 3 {
			call, err := node.Agent.Plugin(ctx, agent.PluginArgs{
				Plugin: name, BinDirs: dirs, Env: []string{"CNI_COMMAND=VERSION"},
				Stdin: []byte(`{"cniVersion": "1.0.0"}`),
			})
			if err != nil {
				return nil, err
			}
			if !call.Failed() && call.Duration < fastest {
				program, fastest = name, call.Duration
			}
		}
	}
	if program == "" {
		return nil, errors.New("no plugin answers VERSION")
	}
	script := fmt.Sprintf("#!/bin/sh\nPATH=%s CNI_COMMAND=VERSION exec %s >/dev/null\n",
		strings.Join(dirs, ":"), program)
	for range file.Plugins {
		plugins = append(plugins, map[string]any{"type": path.Base(nothingPath)})
	}
	return plugins, node.Agent.WriteFile(ctx, agent.File{Path: nothingPath, Mode: 0o755, Data: []byte(script)})
}

// pollCost polls, and returns the time that processors spent on it.
func (l *lab) pollCost(ctx context.Context) (time.Duration, error) {
	before, err := l.processorTime(ctx)
	if err != nil {
		return 0, err
	}
	if err := l.poll(ctx); err != nil {
		return 0, err
	}
	after, err := l.processorTime(ctx)
	return after - before, err
}

// processorTime returns the time that containerd of the first node, its children and the plugins' daemon had.
func (l *lab) processorTime(ctx context.Context) (total time.Duration, err error) {
	reply, err := l.Nodes()[0].Agent.Command(ctx, agent.CommandArgs{Argv: []string{
		"sh", "-c", `for p in /proc/[0-9]*; do read -r name <$p/comm && test "$name" = containerd -o "$name" = "$1" &&
			cat $p/stat; done 2>/dev/null; true`, "sh", l.targetDaemon(),
	}})
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(reply.Output) {
		// proc_pid_stat(5): utime, stime, cutime and cstime, in ticks of 10 ms. The name may have spaces.
		fields := strings.Fields(line[strings.LastIndex(line, ")")+1:])
		if len(fields) < 15 {
			return 0, fmt.Errorf("stat of containerd: %q", reply.Output)
		}
		for _, text := range fields[11:15] {
			ticks, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return 0, err
			}
			total += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	if total == 0 {
		return 0, errors.New("no containerd runs")
	}
	return total, nil
}

// targetDaemon returns the program of the target's daemon; empty if there is none.
func (l *lab) targetDaemon() string {
	daemon := l.target.GivenDaemon()
	if daemon == nil {
		return ""
	}
	// The kernel cuts names (proc_pid_comm(5)).
	name := path.Base(daemon.Command[0])
	return name[:min(len(name), 15)]
}

func (l *lab) podStarts(ctx context.Context) (err error) {
	var all, answer, add []time.Duration
	const pod = "web"
	if _, err := l.Attach(ctx, l.Nodes()[0], "asker"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.detachPair(ctx, nil, "asker", pod)) }()
	for range starts {
		interval := machinetime.Start()
		a, err := l.Attach(ctx, l.Nodes()[0], pod)
		if err != nil {
			return err
		}
		all = append(all, interval.Given())
		took, err := l.addTook(ctx)
		if err != nil {
			return err
		}
		add = append(add, took)
		interval = machinetime.Start()
		p, err := l.pairWith(ctx, "asker", a)
		if err != nil {
			return err
		}
		answer = append(answer, all[len(all)-1]+interval.Given())
		if err := l.detachPair(ctx, p, pod); err != nil {
			return err
		}
	}
	l.keep("RunPodSandbox", 0, all)
	l.keep("RunPodSandbox, of which from the first plugin's start to the result of ADD", 0, add)
	l.keep("from RunPodSandbox to the pod's first answer", 0, answer)
	return nil
}

// addTook returns how long the last ADD took, by containerd's log.
func (l *lab) addTook(ctx context.Context) (time.Duration, error) {
	state, err := l.Nodes()[0].Agent.Daemon(ctx, daemonName)
	if err != nil {
		return 0, err
	}
	var times []time.Time
	for _, text := range []string{"begin cni setup", "cni result: "} {
		found := regexp.MustCompile(`time="([^"]+)"[^\n]*msg="`+text).FindAllStringSubmatch(state.Output, -1)
		if len(found) == 0 {
			return 0, fmt.Errorf("no %q in containerd's log", text)
		}
		at, err := time.Parse(time.RFC3339Nano, found[len(found)-1][1])
		if err != nil {
			return 0, err
		}
		times = append(times, at)
	}
	return times[1].Sub(times[0]), nil
}

// delWhileDaemonHangs judges what the hanging adds to the time, so that a busy machine does not decide.
func (l *lab) delWhileDaemonHangs(ctx context.Context) error {
	const answered, hung = "answered", "hung"
	daemon := l.target.Daemon.Name
	var plain, more []time.Duration
	for range 3 {
		for _, pod := range []string{answered, hung} {
			if _, err := l.Attach(ctx, l.Nodes()[0], pod); err != nil {
				return err
			}
		}
		without, err := l.stopTook(ctx, answered)
		if err != nil {
			return err
		}
		with, err := l.whileFrozen(ctx, daemon, func() (time.Duration, error) { return l.stopTook(ctx, hung) })
		if err != nil {
			return err
		}
		plain, more = append(plain, without), append(more, max(0, with-without))
		if err := forAll([]string{answered, hung}, func(pod string) error { return l.Detach(ctx, pod) }); err != nil {
			return err
		}
	}
	l.keep("StopPodSandbox, and so DEL", 0, plain)
	took := l.keep("what StopPodSandbox, and so DEL, takes longer while "+daemon+" hangs", delLimit, more)
	if took > delLimit {
		return fmt.Errorf("StopPodSandbox takes %s longer while %s hangs, want at most %s: a node that is shut down "+
			"does not wait longer, and what the pod has stays", took.Round(time.Millisecond), daemon, delLimit)
	}
	p, err := l.attachPair(ctx, "asker", "after")
	return errors.Join(err, l.detachPair(ctx, p, "asker", "after"))
}

// whileFrozen freezes the plugins' daemon of the first node while do runs.
func (l *lab) whileFrozen(ctx context.Context, daemon string, do func() (time.Duration, error),
) (took time.Duration, err error) {
	node := l.Nodes()[0].Agent
	if err := node.FreezeDaemon(ctx, agent.FreezeArgs{Name: daemon}); err != nil {
		return 0, err
	}
	took, err = do()
	thaw := agent.FreezeArgs{Name: daemon, Thaw: true}
	return took, errors.Join(err, node.FreezeDaemon(context.WithoutCancel(ctx), thaw))
}

// stopTook stops the sandboxes of a pod and returns how long that took.
func (l *lab) stopTook(ctx context.Context, pod string) (time.Duration, error) {
	c := l.runtimes[0]
	ids, err := c.Sandboxes(ctx, pod)
	if err != nil {
		return 0, err
	}
	interval := machinetime.Start()
	for _, id := range ids {
		if err := c.StopSandbox(ctx, id); err != nil {
			return 0, err
		}
	}
	return interval.Given(), nil
}

var _ cluster.Measured = (*lab)(nil)
