package contract

import (
	"context"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// endSecond attaches the pod of the first attachment a second time, as net1, and makes a call that has to end the
// second attachment alone. It returns nil if the plugin refuses to attach it, or one before it, since a plugin may give
// a pod one interface, and if the call fails. In the words of a failure, what names the call, and own says what it must
// not delete.
func (g *planted) endSecond(ctx context.Context, what, own string, end func() (cni.Call, error)) (*cni.Call, error) {
	p := g.pods[0]
	second := &pod{name: p.name, id: p.id, ifName: "net1", netns: p.netns}
	if g.attachBefore(ctx, second) != nil {
		return nil, nil // if the reason is the node, the next call says so
	}
	err := g.attach(ctx, second)
	if _, refused := asAddError(err); refused {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	whole, err := g.remaining(ctx, 0)
	if err != nil {
		return nil, err
	}
	call, err := end()
	if err != nil {
		return nil, err
	}
	if call.ExitCode != 0 {
		g.wrong([]cni.Call{call}, "%s: want success, got %s", what, summary(call))
		return nil, nil
	}
	kept, err := g.remaining(ctx, 0)
	if err != nil {
		return nil, err
	}
	if missing := snapshot.Beyond(whole, kept); len(missing) > 0 {
		g.wrong([]cni.Call{call}, "%s deletes %s: %s", what, own, first(missing))
	}
	return &call, nil
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
	_, err = g.endSecond(ctx, "DEL of one of two attachments of a pod", "what the other has",
		func() (cni.Call, error) { return g.must(ctx, cni.Del, g.pods[1]) })
	return err
}
