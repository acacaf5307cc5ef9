package contract

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/probe"
)

// masqueradingUpstream are upstream's plugins that know the key ipMasq.
func masqueradingUpstream() []string { return []string{"bridge", "ptp"} }

// masquerade returns an edit of the key ipMasq.
func masquerade(on bool) func(*invocation) {
	return func(inv *invocation) { inv.config["ipMasq"] = on }
}

// takesMasquerade returns why the subject is not asked for the key ipMasq; nil if it claims it, or is known to take it.
func (b *bench) takesMasquerade(ctx context.Context) error {
	config := b.configs[b.subject.index]
	if config["ipMasq"] == true {
		return nil
	}
	if !slices.Contains(masqueradingUpstream(), b.subject.Type) {
		return notApplicable("the configuration of %s does not have ipMasq: true", b.subject.Type)
	}
	if b.subject.Type == "bridge" && config["isGateway"] != true && config["isDefaultGateway"] != true {
		return notApplicable("bridge is no gateway of its pods here: what they send leaves without the node's help")
	}
	programs, err := b.node.Agent.Programs(ctx, []string{"iptables", "nft"})
	if err == nil && len(programs) == 0 {
		err = notApplicable("the configuration has no ipMasq, for which %s calls iptables or nft; neither is installed",
			b.subject.Type)
	}
	return err
}

// listener is a server for the probes of a check.
var listener = probe.ListenSpec{Protocol: probe.UDP, Port: 8971, Name: "cnitest"}

func checkMasquerade(ctx context.Context, t *trial) error {
	b, lan, err := t.besideOthers(ctx, "lan")
	if err != nil {
		return err
	}
	if err := b.takesMasquerade(ctx); err != nil {
		return err
	}
	if err := lan.Agent.Listen(ctx, lan.Netns, listener); err != nil {
		return err
	}
	plain, err := b.masqueraded(ctx, "plain", lan, false)
	if err != nil {
		return err
	}
	if !plain.answer.OK || plain.answer.PeerSeen != plain.addr.String() {
		return notApplicable("without ipMasq %s is not asked from the pod's own address either: it saw %q; %s",
			lan.Name, plain.answer.PeerSeen, plain.answer.Error)
	}
	masked, err := b.masqueraded(ctx, "masked", lan, true)
	switch {
	case err != nil:
		return err
	case !masked.answer.OK:
		t.wrong([]cni.Call{masked.call}, "with ipMasq the pod reaches %s no more: %s", lan.Name, masked.answer.Error)
		return nil
	case masked.answer.PeerSeen == masked.addr.String():
		t.wrong([]cni.Call{masked.call}, "with ipMasq %s still sees the pod's own address %s", lan.Name, masked.addr)
		return nil
	}
	return b.staysInside(ctx, masked, plain)
}

// asking is a pod that asked a host on the underlay.
type asking struct {
	*pod
	call   cni.Call
	addr   netip.Addr
	net    netip.Prefix
	answer probe.Result
}

// masqueraded attaches a pod with the key ipMasq, and has it ask a host outside of its network.
func (b *bench) masqueraded(ctx context.Context, name string, host *cluster.Place, on bool) (*asking, error) {
	p, err := b.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	a := &asking{pod: p}
	if a.call, err = b.add(ctx, p, masquerade(on)); err != nil {
		return nil, err
	}
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return nil, notApplicable("ADD gives no result, see ADD-2")
	}
	for _, ip := range result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			continue
		}
		ones, _ := ip.Address.Mask.Size()
		addr = addr.Unmap()
		network := netip.PrefixFrom(addr, ones).Masked()
		to, err := host.Address("uplink", addr.Is4())
		if err != nil || network.Contains(to) {
			continue
		}
		a.addr, a.net = addr, network
		a.answer, err = b.node.Agent.Probe(ctx, p.netns, probe.Spec{
			Protocol: probe.UDP, To: to.String(), Port: listener.Port, Within: 3 * time.Second,
		})
		return a, err
	}
	return nil, notApplicable("%s is in the pods' network: what they send there does not leave it", host.Name)
}

// staysInside checks that what a pod with ipMasq sends to another pod of its network has its own address.
func (b *bench) staysInside(ctx context.Context, masked, other *asking) error {
	if !masked.net.Contains(other.addr) {
		return nil
	}
	if err := b.node.Agent.Listen(ctx, other.netns, listener); err != nil {
		return err
	}
	answer, err := b.node.Agent.Probe(ctx, masked.netns, probe.Spec{
		Protocol: probe.UDP, To: other.addr.String(), Port: listener.Port, Within: 3 * time.Second,
	})
	if err == nil && answer.OK && answer.PeerSeen != masked.addr.String() {
		b.wrong([]cni.Call{masked.call}, "with ipMasq another pod of the network %s sees %s in place of the pod's own "+
			"address %s", masked.net, answer.PeerSeen, masked.addr)
	}
	return err
}
