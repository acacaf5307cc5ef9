package contract

import (
	"context"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// failsCleanly checks that a failing ADD prints an error object and leaves nothing. It reports whether ADD failed.
func (b *bench) failsCleanly(ctx context.Context, p *pod, what string,
	edits ...func(*invocation),
) (cni.Call, bool, error) {
	before, err := b.state(ctx, p)
	if err != nil {
		return cni.Call{}, false, err
	}
	call, err := b.call(ctx, cni.Add, p, edits...)
	if err != nil || call.ExitCode == 0 {
		return call, false, err
	}
	if _, ok := failure(call); !ok {
		b.wrong([]cni.Call{call}, "ADD %s: want an error object on stdout, got %s", what, summary(call))
	}
	left, err := b.leftOfFailure(ctx, before, p)
	if err == nil && len(left) > 0 {
		b.wrong([]cni.Call{call}, "ADD %s fails and leaves %s", what, first(left))
	}
	return call, true, err
}

func checkOwnedUplink(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	if err := b.node.Agent.OccupyLink(ctx, agent.ObstacleArgs{Name: b.node.Uplink}); err != nil {
		return err
	}
	// A bridge needs a moment to take over the MAC and the state of its first port.
	if err := timing.Sleep(ctx, snapshot.Quiet); err != nil {
		return err
	}
	_, failed, err := b.failsCleanly(ctx, p, "on the port of a bridge")
	if err == nil && !failed {
		return notApplicable("%s works on an uplink that is the port of a bridge", t.subject.Type)
	}
	return err
}

func checkUplink(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	was, _ := agent.FindLink(l.was, l.uplink)
	is, found := agent.FindLink(l.node, l.uplink)
	switch {
	case !found:
		t.wrong([]cni.Call{l.add}, "after ADD the node has no %s", l.uplink)
	case was.MAC != is.MAC:
		t.wrong([]cni.Call{l.add}, "ADD changes the MAC of %s from %s to %s", l.uplink, was.MAC, is.MAC)
	case was.MTU != is.MTU:
		t.wrong([]cni.Call{l.add}, "ADD changes the MTU of %s from %d to %d", l.uplink, was.MTU, is.MTU)
	}
	return nil
}

func checkOwnNamespace(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	call, failed, err := b.failsCleanly(ctx, p, "with the node's own namespace", func(inv *invocation) {
		inv.env["CNI_NETNS"] = "/proc/1/ns/net"
	})
	if err == nil && !failed {
		t.wrong([]cni.Call{call}, "ADD with the node's own namespace succeeds, want an error")
	}
	return err
}

func checkMissingUplink(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	if err := b.node.Agent.RenameLink(ctx, agent.RenameLinkArgs{
		Name: b.node.Uplink, NewName: "cnitest-away",
	}); err != nil {
		return err
	}
	call, failed, err := b.failsCleanly(ctx, p, "without the uplink")
	switch {
	case err != nil:
		return err
	case !failed:
		return notApplicable("%s works without the uplink", t.subject.Type)
	}
	if answer, ok := failure(call); ok && !strings.Contains(answer.Msg, b.node.Uplink) {
		t.wrong([]cni.Call{call}, "ADD without the uplink: the message does not name %s: %q", b.node.Uplink, answer.Msg)
	}
	return nil
}

// deletesWithoutUplink checks DEL of a pod whose uplink got another name while it ran.
func (t *trial) deletesWithoutUplink(ctx context.Context) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	if _, err := b.add(ctx, p); err != nil {
		return err
	}
	if err := b.node.Agent.RenameLink(ctx, agent.RenameLinkArgs{
		Name: b.node.Uplink, NewName: "cnitest-away",
	}); err != nil {
		return err
	}
	call, err := b.must(ctx, cni.Del, p)
	if err == nil && call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "DEL after the uplink got another name: want success, got %s", summary(call))
	}
	return err
}

func checkWithoutPrograms(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	nowhere := "/nonexistent"
	without := func(inv *invocation) { inv.path = &nowhere }
	_, failed, err := b.failsCleanly(ctx, p, "on a node without programs", without)
	if err != nil || failed {
		return err
	}
	call, err := b.call(ctx, cni.Del, p, without)
	if err == nil && call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "DEL on a node without programs, where ADD succeeded: want success, got %s",
			summary(call))
	}
	return err
}
