package contract

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/probe"
)

func checkSeverity(ctx context.Context, t *trial) error {
	switch {
	case t.subject.Role == IPAM:
		return t.severityOfPool(ctx)
	case t.subject.ipam == "":
		return t.severityOfUplink(ctx)
	}
	b, err := t.stubbed(ctx, nil)
	if err != nil {
		return err
	}
	for _, code := range []uint{50, 51} {
		if err := b.passesOn(ctx, cni.Status, nil, code); err != nil {
			return err
		}
	}
	var na notApplicableError
	if err := t.severityOfUplink(ctx); !errors.As(err, &na) {
		return err
	}
	return nil
}

// severityOfPool checks STATUS of an IPAM plugin whose addresses are used up, of which no attached pod notices
// anything.
func (t *trial) severityOfPool(ctx context.Context) error {
	if err := t.hasPool(); err != nil {
		return err
	}
	b, err := t.bench(ctx, onlyOne)
	if err != nil {
		return err
	}
	if _, err := b.attach(ctx, "first"); err != nil {
		return err
	}
	call, err := b.status(ctx)
	if err != nil {
		return err
	}
	answer, ok := failure(call)
	switch {
	case !ok:
		return notApplicable("STATUS does not notice that the pool is used up")
	case answer.Code == 51:
		t.wrong([]cni.Call{call}, "STATUS with no address left, of which attached pods notice nothing: want code 50, "+
			"got %s", summary(call))
	}
	return nil
}

// severityOfUplink checks STATUS of a plugin while the uplink is down and an attached pod is seen to reach nobody.
func (t *trial) severityOfUplink(ctx context.Context) (err error) {
	b, lan, err := t.besideOthers(ctx, "lan")
	if err != nil {
		return err
	}
	healthy, err := b.status(ctx)
	if err != nil || healthy.ExitCode != 0 {
		return err // STA-1 reports it
	}
	p, err := b.attach(ctx, "first")
	if err != nil {
		return err
	}
	if reaches, err := b.reaches(ctx, p, lan, 3*time.Second); err != nil {
		return err
	} else if !reaches {
		return notApplicable("an attached pod does not reach %s to begin with", lan.Name)
	}
	uplink := agent.SetLinkArgs{Name: b.node.Uplink}
	if err := b.node.Agent.SetLink(ctx, uplink); err != nil {
		return err
	}
	defer func() {
		uplink.Up = true
		err = errors.Join(err, b.node.Agent.SetLink(context.WithoutCancel(ctx), uplink))
	}()
	if reaches, err := b.reaches(ctx, p, lan, time.Second); err != nil {
		return err
	} else if reaches {
		return notApplicable("an attached pod does not need the uplink")
	}
	call, err := b.status(ctx)
	if err != nil {
		return err
	}
	answer, ok := failure(call)
	switch {
	case !ok:
		return notApplicable("STATUS does not notice that the uplink is down")
	case answer.Code == 50:
		t.wrong([]cni.Call{call}, "STATUS with the uplink down, without which an attached pod no longer reaches %s: "+
			"want "+
			"code 51, got %s", lan.Name, summary(call))
	}
	return nil
}

// reaches reports whether a pod gets an answer from a host within a time.
func (b *bench) reaches(ctx context.Context, p *pod, host *cluster.Place, within time.Duration) (bool, error) {
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return false, notApplicable("ADD gives no result, see ADD-2")
	}
	for _, ip := range result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			continue
		}
		to, err := host.Address("uplink", addr.Unmap().Is4())
		if err != nil {
			continue
		}
		answer, err := b.node.Agent.Probe(ctx, p.netns, probe.Spec{
			Protocol: probe.ICMP, To: to.String(), Within: within,
		})
		return answer.OK, err
	}
	return false, nil
}
