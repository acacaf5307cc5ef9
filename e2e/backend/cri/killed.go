package cri

import (
	"context"
	"errors"
	"fmt"

	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// stage is how far a pod is before the call in which containerd is killed.
type stage int

const (
	absent stage = iota
	attached
	stopped // by StopPodSandbox
)

// killing is a point at which containerd is killed with kill -9, in the middle of a call of the CRI.
type killing struct {
	// name follows "runtime-killed-", and when completes "containerd is killed …".
	name, when string
	covers     []string
	pod        stage
	// call is the call of the CRI for the pod with an id, which is empty for absent pods.
	call func(l *lab, ctx context.Context, id string) error
	// verb is the verb in which a stub waits, and at its place among the plugins of the chain; empty for none.
	verb cni.Verb
	at   position
	// unread says that the stub answers, and containerd does not get to read it.
	unread bool
}

// killedPod is the pod whose call is cut off.
const killedPod = "cut-off"

func killings() []killing {
	run := func(l *lab, ctx context.Context, _ string) error {
		_, err := l.Attach(ctx, l.Nodes()[0], killedPod)
		return err
	}
	stop := func(l *lab, ctx context.Context, id string) error { return l.runtimes[0].StopSandbox(ctx, id) }
	remove := func(l *lab, ctx context.Context, id string) error { return l.runtimes[0].removeSandbox(ctx, id) }
	return []killing{
		{
			name: "before-add", when: "before the first plugin made anything", covers: []string{"F03", "E09"},
			call: run, verb: cni.Add, at: first,
		},
		{
			name: "in-add", when: "while the last plugin's ADD hangs", covers: []string{"F03", "E09"},
			call: run, verb: cni.Add,
		},
		{
			name: "after-add", when: "between the end of ADD and the moment at which its result is stored",
			covers: []string{"F03", "E09", "J04"}, call: run, verb: cni.Add, unread: true,
		},
		{
			name: "before-sandbox", when: "when the result of ADD is stored and the sandbox has not started",
			covers: []string{"F03"}, call: run,
		},
		{
			name: "in-del", when: "when StopPodSandbox has called DEL of all plugins but the first",
			covers: []string{"DEL-4", "E05"}, pod: attached, call: stop, verb: cni.Del, at: second,
		},
		{
			name: "after-del", when: "when all plugins have done DEL and StopPodSandbox has not noted it",
			covers: []string{"DEL-4", "E05"}, pod: attached, call: stop, verb: cni.Del, at: first,
		},
		{
			name: "in-removal", when: "when RemovePodSandbox calls DEL once more", covers: []string{"DEL-4", "E05"},
			pod: stopped, call: remove, verb: cni.Del,
		},
	}
}

func (k killing) story() cluster.Story {
	return cluster.Story{
		Name: "runtime-killed-" + k.name, Features: []scenario.Feature{scenario.Attach, scenario.CleanUp},
		Covers: k.covers,
		Description: "containerd is killed " + k.when + ", and started again: other pods do not notice, what the " +
			"plugins made for the pod goes when its sandbox is removed, and the pod starts again.",
		Run: tell(func(l *lab, ctx context.Context) error { return l.killed(ctx, k) }),
	}
}

func (l *lab) killed(ctx context.Context, k killing) (err error) {
	c := l.runtimes[0]
	p, err := l.attachPair(ctx, "asker", "steady")
	defer func() { err = errors.Join(err, l.detachPair(ctx, p, "asker", "steady")) }()
	if err != nil {
		return err
	}
	var id string
	if k.pod >= attached {
		a, err := l.Attach(ctx, l.Nodes()[0], killedPod)
		if err != nil {
			return err
		}
		id = a.ContainerID
	}
	if k.pod >= stopped {
		if err := c.StopSandbox(ctx, id); err != nil {
			return err
		}
	}
	do := func() error { return l.killIn(ctx, k, id, p) }
	if k.verb == "" {
		err = do()
	} else {
		err = l.withStub(ctx, k.at, stub.Orders{On: map[string]stub.Behaviour{
			string(k.verb): {While: holdFile},
		}}, do)
	}
	if err != nil {
		return err
	}
	known, err := c.Sandboxes(ctx, killedPod)
	if err != nil {
		return err
	}
	if len(known) == 0 {
		return &cluster.UnfitError{Reason: "containerd has forgotten the sandbox, and calls no DEL"}
	}
	if err := l.Detach(ctx, killedPod); err != nil {
		return err
	}
	if err := l.endLostShims(ctx); err != nil {
		return err
	}
	if err := p.answers(ctx, "after containerd was started again"); err != nil {
		return err
	}
	_, err = l.Attach(ctx, l.Nodes()[0], killedPod)
	return errors.Join(err, l.Detach(context.WithoutCancel(ctx), killedPod))
}

// endLostShims ends shims of sandboxes that the first node's containerd does not know. A containerd 1.x that was killed
// while a sandbox started leaves the shim, and no plugin is to blame.
func (l *lab) endLostShims(ctx context.Context) error {
	reply, err := l.runtimes[0].api.ListPodSandbox(ctx, &criapi.ListPodSandboxRequest{})
	if err != nil {
		return l.runtimes[0].failed("ListPodSandbox", err)
	}
	known := "none"
	for _, item := range reply.GetItems() {
		known += "|" + item.GetId()
	}
	return l.sh(ctx, `for p in /proc/[0-9]*; do
		args=$(tr '\0' ' ' <$p/cmdline) && case $args in *containerd-[s]him-runc-v2*" -id "*) echo "$args" |
		grep -Eq -- "-id (`+known+`) " || kill -9 ${p#/proc/};; esac; done 2>/dev/null; true`)
}

// killIn makes the call, kills containerd in it, and starts containerd again.
func (l *lab) killIn(ctx context.Context, k killing, id string, p *pair) error {
	c, node := l.runtimes[0], l.Nodes()[0].Agent
	before, err := l.calls(ctx, k.verb)
	if err != nil {
		return err
	}
	wait := holdFile
	if k.verb == "" {
		wait = holdSandboxes
	}
	if err := node.WriteFile(ctx, agent.File{Path: wait, Mode: 0o644}); err != nil {
		return err
	}
	defer func() { _ = node.RemoveFile(context.WithoutCancel(ctx), wait) }()
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- k.call(l, calling, id) }()
	if err = l.reached(ctx, ended, k, before); err == nil && k.unread {
		err = l.leaveUnread(ctx)
	}
	err = errors.Join(err, c.Kill(ctx))
	cancel()
	if ok := <-ended == nil; ok && err == nil {
		err = errors.New("containerd was killed, and its call succeeded")
	}
	err = errors.Join(err, node.RemoveFile(ctx, wait), node.RemoveFile(ctx, sandboxHeld))
	if err != nil {
		return err
	}
	if err := p.answers(ctx, "while no containerd runs"); err != nil {
		return err
	}
	return c.Up(ctx)
}

// reached waits until the call is at the point at which containerd is to be killed.
func (l *lab) reached(ctx context.Context, ended chan error, k killing, before int) error {
	if k.verb != "" {
		return l.called(ctx, ended, k.verb, before)
	}
	return l.inCall(ctx, ended, "no sandbox starts", func() (bool, error) {
		file, err := l.Nodes()[0].Agent.ReadFile(ctx, sandboxHeld)
		return file.Found, err
	})
}

// leaveUnread stops containerd and lets the stub that waits come to its end.
func (l *lab) leaveUnread(ctx context.Context) error {
	node := l.Nodes()[0].Agent
	err := l.sh(ctx, `for p in /proc/[0-9]*; do
		read -r name <$p/comm && test "$name" = containerd && kill -STOP ${p#/proc/}; done 2>/dev/null; true`)
	if err != nil {
		return err
	}
	if err := node.RemoveFile(ctx, holdFile); err != nil {
		return err
	}
	// A process that has ended has no command line. The brackets keep grep from finding itself.
	return l.sh(ctx, `while grep -qs 'cnitest-[c]hained' /proc/[0-9]*/cmdline; do sleep 0.01; done`)
}

// sh runs a script on the first node.
func (l *lab) sh(ctx context.Context, script string) error {
	reply, err := l.Nodes()[0].Agent.Command(ctx, agent.CommandArgs{Argv: []string{"sh", "-c", script}})
	if err == nil && reply.ExitCode != 0 {
		err = fmt.Errorf("%s: exit status %d: %s", script, reply.ExitCode, reply.Output)
	}
	return err
}
