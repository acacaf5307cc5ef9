package contract

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/disk"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/internal/offer"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// powering returns the requirements about power cuts.
func powering() []Requirement {
	const (
		why = "A node whose power fails comes back with files that are empty, torn, or missing: what was written " +
			"without fsync, and names that were still in the journal. A plugin that trips over them attaches no pod " +
			"any more, or fewer with every cut, until somebody removes the files by hand."
		how = "Records what the plugin, those that it delegates to and its daemon write on the disk during ADD of " +
			"two pods, DEL of the first and GC of the second, with their fsyncs. From that it makes every disk that " +
			"ext4 " +
			"or XFS may leave if the power fails during %s: names in the order of the journal, of which the last may " +
			"be missing; data in no order, so that a file may be empty, have zeros, a part of a write or an earlier " +
			"content, two files at most (go doc ./e2e/disk). For each disk the node boots with it, without kernel " +
			"state and /run. Then a runtime that knows everything calls GC and DEL of the old pods with prevResult, " +
			"or one that lost its cache calls both without; then pods are attached until the pool of three addresses " +
			"is used up. Every call succeeds (or says with code 11 that it wants to be tried again, and succeeds " +
			"then), the daemon starts, no address is given twice and none is lost. A plain run tries some disks, one " +
			"of each kind first; --deep tries all. A failure names the cut and the files, and has a token: cnitest " +
			"run CONFLIST --replay TOKEN repeats it."
	)
	power := func(verb cni.Verb, since, text string, covers ...string) Requirement {
		return Requirement{
			ID: "POWER-" + string(verb), Level: Should, Section: "failure mode", Roles: everyPlugin(), Since: since,
			Covers: covers, Text: text, Why: why, How: fmt.Sprintf(how, verb), Cases: PowerCuts,
			check: func(ctx context.Context, t *trial) error { return t.powerCuts(ctx, verb) },
		}
	}
	return []Requirement{
		power(cni.Add, "", "A node attaches as many pods as before, after its power failed during or after an ADD.",
			"D14"),
		power(cni.Del, "", "A node attaches as many pods as before, after its power failed during or after a DEL."),
		power(cni.GC, "1.1.0", "A node attaches as many pods as before, after its power failed during or after a GC."),
	}
}

// poolSize is the number of addresses of a node whose power fails.
const poolSize = 3

// outage is the recording of a workload, and the disks that a power cut may leave.
type outage struct {
	disk.Recording
	disks []disk.Disk
	// ends has the number of calls that were made when a verb of the workload had ended, in its order.
	ends []phase
}

// phase is a verb of the workload, the pod that it is about, and its answer.
type phase struct {
	verb cni.Verb
	pod  *pod
	end  int
}

// of returns the disks of cuts during a verb. What happens before the first is part of it.
func (o *outage) of(verb cni.Verb) (list []disk.Disk) {
	for _, d := range o.disks {
		during := o.ends[len(o.ends)-1].verb // a daemon may write after its last answer
		for i := len(o.ends) - 1; i >= 0; i-- {
			if d.After <= o.ends[i].end {
				during = o.ends[i].verb
			}
		}
		if during == verb {
			list = append(list, d)
		}
	}
	return list
}

// outage returns the recording of the subject; it is made once.
func (t *trial) outage(ctx context.Context) (*outage, error) {
	s := t.subject
	made, err, _ := s.once.Do("outage", func() (any, error) {
		s.mu.Lock()
		known := s.outage
		s.mu.Unlock()
		if known != nil {
			return known, nil
		}
		o, err := t.recordOutage(ctx)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.outage = o
		return o, nil
	})
	if err != nil {
		return nil, err
	}
	return made.(*outage), nil
}

// small makes a node with few addresses, so that one that is lost is missed.
func small(req *cluster.Request) { req.Nodes[0].Addresses = poolSize }

// canFail returns an error if the power of the lab's nodes cannot fail.
func (t *trial) canFail(ctx context.Context) error {
	if err := t.subject.lab.Backend.Missing(ctx, scenario.Needs{Reboot: true}); err != nil {
		return notApplicable("no node can lose its power here: %v", err)
	}
	return nil
}

// recordOutage records the workload.
func (t *trial) recordOutage(ctx context.Context) (*outage, error) {
	b, err := t.bench(ctx, small)
	if err != nil {
		return nil, err
	}
	defer func() { _ = timing.Close(ctx, timing.Lab, b.cluster) }()
	reason, err := b.node.Agent.CanTrace(ctx)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return nil, fmt.Errorf("plugins cannot be traced here: %s", reason)
	}
	if daemon := t.subject.lab.Request.Target.GivenDaemon(); daemon != nil {
		if err := b.node.Agent.RecordDaemon(ctx, cluster.DaemonArgs(b.node, daemon)); err != nil {
			return nil, err
		}
	}
	o := &outage{}
	if err := b.work(ctx, o); err != nil {
		return nil, err
	}
	if o.Recording, err = b.node.Agent.Recorded(ctx); err != nil {
		return nil, err
	}
	o.disks = o.Disks()
	return o, nil
}

// work makes the calls of the workload.
func (b *bench) work(ctx context.Context, o *outage) error {
	old := min(2, b.capacity())
	var pods []*pod
	for i := range old {
		p, err := b.pod(ctx, fmt.Sprintf("old-%d", i+1))
		if err != nil {
			return err
		}
		pods = append(pods, p)
		if err := b.recorded(ctx, cni.Add, p, o); err != nil {
			return err
		}
	}
	if err := b.recorded(ctx, cni.Del, pods[0], o); err != nil || !atLeast(b.version, "1.1.0") {
		return err
	}
	return b.recorded(ctx, cni.GC, nil, o, keeping())
}

// capacity returns how many pods the node can have at once, as far as a power cut is concerned.
func (b *bench) capacity() int {
	most := poolSize
	if b.node.PoolSize > 0 && b.node.PoolSize < 2*poolSize {
		most = b.node.PoolSize
	}
	if given := b.subject.lab.Request.Target.GivenDevices(); len(given) > 0 {
		most = min(most, len(given))
	}
	return most
}

// recorded makes a call, and records what it does on the disk.
func (b *bench) recorded(
	ctx context.Context, verb cni.Verb, p *pod, o *outage, edits ...func(*invocation),
) error {
	args, err := b.arguments(b.subjectInvocation(verb, p, edits...))
	if err != nil {
		return err
	}
	var trace fault.Trace
	if trace, err = b.node.Agent.Record(ctx, args); err != nil {
		return err
	}
	call := trace.Call
	switch {
	case call.ExitCode != 0 && verb == cni.Add:
		return &addError{call}
	case call.ExitCode != 0:
		return fmt.Errorf("%s while the power is on: %s", verb, summary(call))
	}
	if verb == cni.Add {
		p.result = []byte(call.Stdout)
	}
	now, err := b.node.Agent.Recorded(ctx)
	o.ends = append(o.ends, phase{verb, p, len(now.Calls)})
	return err
}

// bootError is a daemon that does not start.
type bootError struct{ error }

// boot lays out a disk on a node, as it was when it was new but for that, and starts the node with it.
func (b *bench) boot(ctx context.Context, pristine []agent.File, d disk.Disk) error {
	daemon := b.subject.lab.Request.Target.GivenDaemon()
	if daemon != nil {
		if err := b.node.Agent.KillDaemon(ctx, daemon.Name); err != nil {
			return err
		}
	}
	b.brought = offer.NewDesk()
	if err := b.node.Agent.LayOut(ctx, combined(pristine, d)); err != nil {
		return err
	}
	err := b.cluster.Reboot(ctx, b.node)
	if err != nil && daemon != nil && strings.Contains(err.Error(), "daemon "+daemon.Name) {
		if _, lost := b.node.Agent.Hello(ctx); lost == nil {
			return bootError{err}
		}
	}
	return err
}

// combined returns the files of a new node with those of a disk.
func combined(pristine []agent.File, d disk.Disk) (files []agent.File) {
	own := map[string]bool{}
	for _, f := range d.Files {
		own[f.Path] = true
	}
	for _, f := range pristine {
		gone := false
		for _, path := range d.Gone {
			gone = gone || f.Path == path || strings.HasPrefix(f.Path, path+"/")
		}
		if !gone && !own[f.Path] {
			files = append(files, f)
		}
	}
	for _, f := range d.Files {
		files = append(files, agent.File{Path: f.Path, Mode: f.Mode, Data: f.Data})
	}
	return files
}

// notBooted reports whether the daemon did not start, and why.
func notBooted(err error) (string, bool) {
	var failed bootError
	if errors.As(err, &failed) {
		return failed.Error(), true
	}
	return "", false
}
