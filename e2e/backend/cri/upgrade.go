package cri

import (
	"context"
	"errors"
	"path"

	"github.com/cnitest/cnitest/e2e/backend/internal/libcnicache"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

const upgradeName = "runtime-upgraded"

// upgrade is the story of an earlier containerd that is replaced.
func upgrade() cluster.Story {
	return cluster.Story{
		Name: upgradeName, Features: []scenario.Feature{scenario.Attach, scenario.CleanUp},
		Covers: []string{"D12", "E09"},
		Description: "containerd is replaced by a later version (--old-cri-tools has the earlier one) while pods are " +
			"alive: they answer all the while, others come, and those of the earlier version are removed by the " +
			"later one.",
		Run: tell((*lab).upgraded),
	}
}

// upgraded runs the earlier containerd first, in place of the node's, which has no pods yet.
func (l *lab) upgraded(ctx context.Context) (err error) {
	c := l.runtimes[0]
	// What the later version wrote is not for the earlier one.
	if err := errors.Join(c.Stop(ctx), l.sh(ctx, "rm -rf "+rootDir+"/*")); err != nil {
		return err
	}
	if err := errors.Join(l.replace(ctx, l.old), c.importImage(ctx)); err != nil {
		return err
	}
	defer func() {
		ctx := context.WithoutCancel(ctx)
		// A containerd 1.x calls loopback, and one that makes the loopback itself does not delete what that one kept.
		err = errors.Join(err, l.replace(ctx, l.tools),
			l.sh(ctx, "rm -f "+path.Join(libcnicache.Dir, "cni-loopback-*")))
	}()
	p, err := l.attachPair(ctx, "asker", "steady")
	defer func() { err = errors.Join(err, l.detachPair(ctx, p, "asker", "steady")) }()
	if err != nil {
		return err
	}
	if _, err := l.Attach(ctx, l.Nodes()[0], "leaving"); err != nil {
		return err
	}
	if err := c.Stop(ctx); err != nil {
		return err
	}
	if err := p.answers(ctx, "while no containerd runs"); err != nil {
		return err
	}
	if err := l.replace(ctx, l.tools); err != nil {
		return err
	}
	if err := p.answers(ctx, "after the upgrade of containerd"); err != nil {
		return err
	}
	later, err := l.attachPair(ctx, "later-asker", "later")
	err = errors.Join(err, l.detachPair(ctx, later, "later-asker", "later"))
	if err != nil {
		return err
	}
	if err := l.Detach(ctx, "leaving"); err != nil {
		return err
	}
	return p.answers(ctx, "after a pod of the earlier containerd was removed")
}

// replace starts another version of containerd on the first node in place of the one there.
func (l *lab) replace(ctx context.Context, by *tools) error {
	c := l.runtimes[0]
	if c.tools == by {
		return nil
	}
	if err := c.Stop(ctx); err != nil {
		return err
	}
	c.tools = by
	if err := c.configure(ctx); err != nil {
		return err
	}
	return c.Up(ctx)
}
