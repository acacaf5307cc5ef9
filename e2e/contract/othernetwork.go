package contract

import (
	"context"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// otherNetwork returns the same node with a second network that uses the same plugins.
func (b *bench) otherNetwork() *bench {
	other := *b
	other.network = "cnitest-other"
	return &other
}

// plantedElsewhere attaches a pod to a second network. An allocator that counts separately for each network would give
// the first pods of both networks the same address, so the first pod of the second network is deleted before the second
// one is attached.
func (b *bench) plantedElsewhere(ctx context.Context) (*planted, error) {
	other := b.otherNetwork()
	filler, err := other.attach(ctx, "filler")
	if err != nil {
		return nil, err
	}
	g, err := other.plant(ctx, "elsewhere")
	if err != nil {
		return nil, err
	}
	if _, err := other.must(ctx, cni.Del, filler); err != nil {
		return nil, err
	}
	return g, other.end(ctx, filler)
}

// addressesOf returns the addresses of a pod's result, as text.
func addressesOf(p *pod) string {
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return ""
	}
	var list []string
	for _, ip := range result.IPs {
		list = append(list, ip.Address.IP.String())
	}
	return strings.Join(list, " ")
}

func checkCollectsOwn(ctx context.Context, t *trial) error {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	elsewhere, err := b.plantedElsewhere(ctx)
	if failed, ok := asAddError(err); ok {
		return notApplicable("a second network of the same plugins does not come up on one node: %s",
			summary(failed.call))
	}
	if err != nil {
		return err
	}
	g, err := b.plant(ctx, "live")
	if err != nil {
		return err
	}
	live, other := g.pods[0], elsewhere.pods[0]
	if same := addressesOf(other); same != "" && same == addressesOf(live) {
		return notApplicable("the pods of both networks get the same addresses: %s", same)
	}
	whole, err := elsewhere.lasting(ctx, 0)
	if err != nil {
		return err
	}
	for _, round := range []struct {
		what string
		keep func(*invocation)
	}{{"GC", keeping(live)}, {"GC with an empty list", keeping()}} {
		call, err := b.must(ctx, cni.GC, nil, round.keep)
		if err != nil {
			return err
		}
		now, err := elsewhere.remaining(ctx, 0)
		if err != nil {
			return err
		}
		if lost := snapshot.Beyond(whole, now); len(lost) > 0 {
			t.wrong([]cni.Call{call}, "%s of the network %s deletes what an attachment of the network %s has: %s",
				round.what, b.network, elsewhere.network, first(lost))
			return nil
		}
		check, err := elsewhere.must(ctx, cni.Check, other)
		if err != nil {
			return err
		}
		if check.ExitCode != 0 {
			t.wrong([]cni.Call{call, check}, "CHECK of an attachment of the network %s after %s of the network %s: %s",
				elsewhere.network, round.what, b.network, summary(check))
			return nil
		}
	}
	return nil
}
