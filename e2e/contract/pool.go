package contract

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

func checkDuplicateAddress(ctx context.Context, t *trial) error {
	b, p, err := t.besideDuplicates(ctx)
	if err != nil || b == nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p)
	if err != nil {
		return err
	}
	if call.ExitCode == 0 {
		return notApplicable("%s does not check whether addresses are in use", t.subject.Type)
	}
	left, err := b.leftOfFailure(ctx, before, p)
	if err == nil && len(left) > 0 {
		t.wrong([]cni.Call{call}, "ADD found its address in use, fails, and leaves %s", first(left))
	}
	return err
}

// besideDuplicates returns a bench with a pod whose addresses a machine on the network has, too. The bench is nil if
// ADD gives no addresses, which ADD-2 reports.
func (t *trial) besideDuplicates(ctx context.Context) (*bench, *pod, error) {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return nil, nil, err
	}
	result, err := cni.ParseResult(l.pod.result)
	if err != nil || len(result.IPs) == 0 {
		return nil, nil, nil
	}
	b, err := t.bench(ctx, func(req *cluster.Request) { req.Alone = false })
	if err != nil {
		return nil, nil, err
	}
	lan, ok := b.cluster.Hosts()["lan"]
	if !ok {
		return nil, nil, notApplicable("the lab has no machines other than the nodes")
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return nil, nil, err
	}
	links, err := lan.Agent.Links(ctx, lan.Netns)
	if err != nil {
		return nil, nil, err
	}
	for _, ip := range result.IPs {
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		for _, l := range links {
			if l.Kind == "veth" {
				args := agent.AddressArgs{
					Netns: lan.Netns, Interface: l.Name, Address: netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()),
					NoDAD: true,
				}
				if err := lan.Agent.AddAddress(ctx, args); err != nil {
					return nil, nil, err
				}
			}
		}
	}
	return b, p, nil
}

func checkNextAfterFailure(ctx context.Context, t *trial) error {
	if t.subject.Role == Main && t.subject.ipam != "" {
		if err := t.nextAfterFirstFailed(ctx); err != nil {
			return err
		}
	}
	return t.retryWithOneAddress(ctx)
}

// nextAfterFirstFailed makes the very first ADD of a node fail in the middle. What it leaves for the node as a whole,
// such as a bridge without ports, must do for the next pod.
func (t *trial) nextAfterFirstFailed(ctx context.Context) error {
	b, err := t.stubbed(ctx, map[string]stub.Behaviour{"ADD": {Code: 11, Msg: "not now, says the stub", Times: 1}})
	if err != nil {
		return err
	}
	first, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	failed, err := b.call(ctx, cni.Add, first)
	if err != nil || failed.ExitCode == 0 {
		return err
	}
	if _, err := b.call(ctx, cni.Del, first); err != nil {
		return err
	}
	return t.addsNext(ctx, b, "ADD of the next pod, after the first ADD of the node failed and its DEL", failed)
}

// addsNext checks that ADD of a second pod succeeds. What says when that is, and story has the calls before it.
func (t *trial) addsNext(ctx context.Context, b *bench, what string, story ...cni.Call) error {
	second, err := b.pod(ctx, "second")
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, second)
	if err == nil && call.ExitCode != 0 {
		t.wrong(append(story, call), "%s: want success, got %s", what, summary(call))
	}
	return err
}

// retryWithOneAddress makes ADD fail after the IPAM plugin gave it the only address.
func (t *trial) retryWithOneAddress(ctx context.Context) error {
	if err := t.hasPool(); err != nil {
		return err
	}
	b, err := t.bench(ctx, onlyOne)
	if err != nil {
		return err
	}
	path, err := b.node.Agent.CreateNamespace(ctx, "first")
	if err != nil {
		return err
	}
	p := &pod{name: "first", id: "cnitest-first", ifName: "eth0", netns: path}
	if err := b.node.Agent.AddBridge(ctx, agent.ObstacleArgs{Netns: p.netns, Name: p.ifName}); err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p)
	if err != nil {
		return err
	}
	if call.ExitCode == 0 || t.subject.Role == Chained {
		return notApplicable("%s does not make the interface", t.subject.Type)
	}
	if call, err = b.must(ctx, cni.Del, p); err != nil {
		return err
	}
	if call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "DEL after an ADD that failed: want success, got %s", summary(call))
	}
	second, err := b.pod(ctx, "second")
	if err != nil {
		return err
	}
	if call, err = b.must(ctx, cni.Add, second); err == nil && call.ExitCode != 0 {
		t.wrong(
			[]cni.Call{call},
			"with one address in the pool, after an ADD that failed and its DEL, ADD: want success, got %s",
			summary(call),
		)
	}
	return err
}

func checkPartialAllocation(ctx context.Context, t *trial) error {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	edit, ok := narrow6(b.configs[t.subject.index])
	if !ok {
		return notApplicable("the conflist has no pools of both families that the check knows how to make smaller")
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	if _, err := b.add(ctx, p, edit); err != nil {
		return err
	}
	second, err := b.pod(ctx, "second")
	if err != nil {
		return err
	}
	call, failed, err := b.failsCleanly(ctx, second, "with no IPv6 address left", edit)
	if err == nil && !failed {
		t.wrong([]cni.Call{call}, "ADD with no IPv6 address left succeeds, want an error")
	}
	return err
}

// narrow6 reduces the IPv6 pool of host-local to one address.
func narrow6(config map[string]any) (func(*invocation), bool) {
	ipam, _ := config["ipam"].(map[string]any)
	if ipam == nil || ipam["type"] != "host-local" {
		return nil, false
	}
	text, err := json.Marshal(ipam)
	if err != nil {
		return nil, false
	}
	var copied map[string]any
	if err := json.Unmarshal(text, &copied); err != nil {
		return nil, false
	}
	sets, _ := copied["ranges"].([]any)
	var has4, has6 bool
	for _, set := range sets {
		ranges, _ := set.([]any)
		for _, r := range ranges {
			object, _ := r.(map[string]any)
			subnet, _ := object["subnet"].(string)
			prefix, err := netip.ParsePrefix(subnet)
			if err != nil {
				return nil, false
			}
			if prefix.Addr().Is4() {
				has4 = true
				continue
			}
			has6 = true
			start, _ := object["rangeStart"].(string)
			if start == "" {
				start = prefix.Masked().Addr().Next().Next().String()
			}
			object["rangeStart"], object["rangeEnd"] = start, start
		}
	}
	return func(inv *invocation) { inv.config["ipam"] = copied }, has4 && has6
}

func checkFailingIPAM(ctx context.Context, t *trial) error {
	b, err := t.stubbed(ctx, map[string]stub.Behaviour{"ADD": {Code: 11, Msg: "no address left, says the stub"}})
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p)
	if err != nil {
		return err
	}
	if call.ExitCode == 0 {
		t.wrong([]cni.Call{call}, "ADD succeeds although its IPAM plugin failed")
		return nil
	}
	left, err := b.leftOfFailure(ctx, before, p)
	if err == nil && len(left) > 0 {
		t.wrong([]cni.Call{call}, "ADD fails since its IPAM plugin did, and leaves %s", first(left))
	}
	return err
}

func checkRetry(ctx context.Context, t *trial) error {
	b, err := t.stubbed(ctx, map[string]stub.Behaviour{"ADD": {Code: 11, Msg: "not now, says the stub", Times: 2}})
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	var calls []cni.Call
	for range 3 {
		call, err := b.call(ctx, cni.Add, p)
		if err != nil {
			return err
		}
		calls = append(calls, call)
	}
	if last := calls[2]; last.ExitCode != 0 {
		t.wrong(calls[1:], "ADD after two that failed, when its IPAM plugin works again: want success, got %s",
			summary(last))
	}
	return nil
}

func checkKilledHolder(ctx context.Context, t *trial) error {
	b, err := t.stubbed(ctx, map[string]stub.Behaviour{"ADD": {Hang: true, Times: 1}})
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	if err := b.killWhileDelegating(ctx, p); err != nil {
		return err
	}
	return t.addsNext(ctx, b, "ADD after another one was killed")
}

// killWhileDelegating kills an ADD once the stub runs. On a busy machine half a second may not be enough.
func (b *bench) killWhileDelegating(ctx context.Context, p *pod) error {
	for _, timeout := range []time.Duration{500 * time.Millisecond, deadline} {
		inv := b.invocation(cni.Add, p, b.subject.index, p.before)
		inv.timeout = timeout
		if _, err := b.exec(ctx, inv); err != nil {
			return err
		}
		if records, err := b.recordsOf(ctx, cni.Add); err != nil || len(records) > 0 {
			return err
		}
	}
	return notApplicable("%s does not come to ask its IPAM plugin", b.subject.Type)
}
