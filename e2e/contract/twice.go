package contract

import (
	"context"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// again attaches a pod a second time, as net1. It reports whether the plugin refuses that, or one before it: a plugin
// may give a pod one interface.
func (g *planted) again(ctx context.Context, p *pod) (refused bool, err error) {
	second := &pod{name: p.name, id: p.id, ifName: "net1", netns: p.netns}
	if g.attachBefore(ctx, second) != nil {
		return true, nil // if the reason is the node, the next call says so
	}
	err = g.attach(ctx, second)
	if _, refused = asAddError(err); refused {
		return true, nil
	}
	return false, err
}

// deletesOne checks that DEL of one attachment of a pod leaves on the node what the other has.
func (t *trial) deletesOne(ctx context.Context) error {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	g, err := b.plant(ctx, "first")
	if err != nil {
		return err
	}
	if refused, err := g.again(ctx, g.pods[0]); refused || err != nil {
		return err
	}
	whole, err := g.remaining(ctx, 0)
	if err != nil {
		return err
	}
	del, err := g.must(ctx, cni.Del, g.pods[1])
	if err != nil {
		return err
	}
	if del.ExitCode != 0 {
		t.wrong([]cni.Call{del}, "DEL of one of two attachments of a pod: want success, got %s", summary(del))
		return nil
	}
	kept, err := g.remaining(ctx, 0)
	if err != nil {
		return err
	}
	if missing := snapshot.Beyond(whole, kept); len(missing) > 0 {
		t.wrong([]cni.Call{del}, "DEL of one of two attachments of a pod deletes what the other has: %s",
			first(missing))
	}
	return nil
}
