package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// raceLane is a node on which the schedules of a setting are tried, one after the other.
type raceLane struct {
	lane
	setting
	// on has the network of each call, pods its attachment. The third pod is that of a warm node.
	on   [2]*bench
	pods [2]*pod
	// residue is what the first attachment of the node left.
	residue []snapshot.Change
	serial
}

// serial is what the two calls do one after the other.
type serial struct {
	// points are those of each call if it is the first.
	points [2][]fault.Point
	// whole has the changes after both, for each order.
	whole [2][]snapshot.Change
	// failed is what CHECK says after each order, reached are the probes that are answered.
	failed  [2]string
	reached []reach
	shares  bool // addresses are given twice
}

// reach is a probe between two places.
type reach struct {
	from *pod // nil for the node
	to   *pod
}

func (r reach) String() string {
	name := func(p *pod) string {
		if p == nil {
			return "the node"
		}
		return p.name + " " + p.ifName
	}
	return name(r.from) + " to " + name(r.to)
}

// unfitError means that a plugin does not do in a setting what it must do without another call beside it.
type unfitError string

func (e unfitError) Error() string { return string(e) }

// raceLane makes a lane, and calls the two one after the other in both orders.
func (t *trial) raceLane(ctx context.Context, s setting) (*raceLane, error) {
	b, err := t.traceable(ctx)
	if err != nil {
		return nil, err
	}
	l := &raceLane{lane: lane{bench: b}, setting: s}
	if err := l.furnish(ctx); err != nil {
		return nil, err
	}
	if err := l.settleDown(ctx); err != nil {
		return nil, err
	}
	return l, l.oneAfterTheOther(ctx)
}

// furnish makes the pods.
func (l *raceLane) furnish(ctx context.Context) (err error) {
	l.on = [2]*bench{l.bench, l.bench}
	if l.pods[0], err = l.bench.pod(ctx, "pod-1"); err != nil {
		return err
	}
	switch l.pairs {
	case twoPods:
		l.pods[1], err = l.bench.pod(ctx, "pod-2")
		return err
	case twoInterfaces:
		second := &pod{name: l.pods[0].name, id: l.pods[0].id, ifName: "net1", netns: l.pods[0].netns}
		if err := l.attachBefore(ctx, second); err != nil {
			return unfitError(err.Error())
		}
		l.pods[1] = second
		return nil
	}
	other := *l.bench
	other.network += "-2"
	l.on[1] = &other
	// Most IPAM plugins begin each network with the same address, which two pods cannot have.
	for range 3 {
		p, err := other.pod(ctx, "filler")
		if err != nil {
			return err
		}
		if _, err := other.add(ctx, p); err != nil {
			return unfitError(err.Error())
		}
		if _, err := other.call(ctx, cni.Del, p); err != nil {
			return err
		}
		if err := other.end(ctx, p); err != nil {
			return err
		}
	}
	l.pods[1], err = other.pod(ctx, "pod-2")
	return err
}

// everybody returns the pods, each namespace once.
func (l *raceLane) everybody() []*pod {
	pods := []*pod{l.pods[0]}
	if l.pairs != twoInterfaces {
		pods = append(pods, l.pods[1])
	}
	if l.third != nil {
		pods = append(pods, l.third)
	}
	return pods
}

// settleDown attaches and deletes each pod once, attaches the third one to a warm node, and takes the states.
func (l *raceLane) settleDown(ctx context.Context) (err error) {
	if l.lane.cold, err = l.state(ctx, l.everybody()...); err != nil {
		return err
	}
	for i, p := range l.pods {
		if _, err := l.on[i].add(ctx, p); err != nil {
			if l.pairs != twoPods {
				err = unfitError(err.Error())
			}
			return err
		}
	}
	for i, p := range l.pods {
		call, err := l.on[i].call(ctx, cni.Del, p)
		if err != nil {
			return err
		}
		if call.ExitCode != 0 {
			return fmt.Errorf("DEL without another call beside it: %s", summary(call))
		}
	}
	bare, err := l.stable(ctx)
	if err != nil {
		return err
	}
	l.residue = ownChanges(snapshot.Diff(l.lane.cold, bare))
	l.clean = bare
	if l.setting.cold {
		return nil
	}
	if l.third, err = l.bench.attach(ctx, "pod-3"); err == nil {
		l.clean, err = l.stable(ctx)
	}
	return err
}

// stable returns the state once it does not change any more.
func (l *raceLane) stable(ctx context.Context) (snapshot.State, error) {
	before, err := l.state(ctx, l.everybody()...)
	if err != nil {
		return before, err
	}
	if _, err := l.leftAfter(ctx, before, nil, l.everybody()...); err != nil {
		return before, err
	}
	return l.state(ctx, l.everybody()...)
}

// news returns the changes against the clean state, except for what the first attachment of a node leaves and later
// ones may change, remove or make again under another name.
func (l *raceLane) news(changes []snapshot.Change) (news []snapshot.Change) {
	stays := func(item snapshot.Item) bool {
		return slices.ContainsFunc(l.residue, func(r snapshot.Change) bool { return r.Item.Key() == item.Key() })
	}
	type sort struct{ scope, kind string }
	gone := map[sort]int{}
	changes = slices.DeleteFunc(ownChanges(changes), func(c snapshot.Change) bool {
		if c.Op == snapshot.Removed && stays(c.Item) {
			gone[sort{c.Item.Scope, c.Item.Kind}]++
		}
		return c.Op != snapshot.Added && stays(c.Item) || c.Item.Kind == snapshot.Group || ofKernel(c.Item)
	})
	for _, c := range changes {
		if key := (sort{c.Item.Scope, c.Item.Kind}); c.Op == snapshot.Added && gone[key] > 0 {
			gone[key]--
			continue
		}
		news = append(news, c)
	}
	return news
}

// ofKernel reports whether the kernel itself makes an item a while after a link is up.
func ofKernel(item snapshot.Item) bool {
	return (item.Kind == snapshot.Address || item.Kind == snapshot.Route) && strings.Contains(item.Name, "fe80:")
}

// chill removes what earlier attachments left on a cold node. What cannot be removed stays.
func (l *raceLane) chill(ctx context.Context) {
	if !l.setting.cold {
		return
	}
	left := slices.DeleteFunc(slices.Clone(l.residue), func(c snapshot.Change) bool {
		return c.Op != snapshot.Added || snapshot.Revertible(c) != nil
	})
	namespaces := map[string]string{}
	for _, p := range l.everybody() {
		namespaces[p.name] = p.netns
	}
	// A directory can be removed once it is empty.
	for range 4 {
		left = slices.DeleteFunc(left, func(c snapshot.Change) bool {
			return l.node.Agent.Revert(ctx, agent.RevertArgs{Change: c, Namespaces: namespaces}) == nil
		})
	}
}

// encounter is one schedule and its outcome.
type encounter struct {
	fault.Schedule
	got fault.Interleaving
	// later are the calls after it.
	later []cni.Call
	// attached are the pods that are attached now, the third one included.
	attached []*pod
	changes  []snapshot.Change
	left     []snapshot.Change
	// wrongs says what is not as after one call and then the other.
	wrongs []string
}

func (e *encounter) wrong(format string, args ...any) {
	e.wrongs = append(e.wrongs, fmt.Sprintf(format, args...))
}

// calls prepares the two calls.
func (l *raceLane) calls(ctx context.Context) (args [2]agent.PluginArgs, err error) {
	for i, verb := range l.verbs {
		p := l.pods[i]
		switch verb {
		case cni.Del, cni.Check:
			if _, err := l.on[i].add(ctx, p); err != nil {
				return args, err
			}
		case cni.Add:
			p.result = nil
		case cni.Status:
			p = nil
		}
		inv := l.on[i].subjectInvocation(verb, p)
		// One waits for the other.
		inv.timeout = 3 * deadline
		if args[i], err = l.on[i].arguments(inv); err != nil {
			return args, err
		}
	}
	return args, nil
}

// meet runs the two calls under a schedule, and again those that ask for it.
func (l *raceLane) meet(ctx context.Context, schedule fault.Schedule) (*encounter, error) {
	l.chill(ctx)
	args, err := l.calls(ctx)
	if err != nil {
		return nil, err
	}
	e := &encounter{Schedule: schedule}
	if e.got, err = l.node.Agent.Interleave(ctx, agent.InterleaveArgs{Plugins: args, Schedule: schedule}); err != nil {
		return nil, err
	}
	if l.third != nil {
		e.attached = append(e.attached, l.third)
	}
	for i, verb := range l.verbs {
		call := e.got.Runs[i].Call
		if answer, ok := failure(call); ok && answer.Code == tryAgain && call.ExitCode != 0 && verb != cni.Status {
			if call, err = l.on[i].call(ctx, verb, l.pods[i]); err != nil {
				return nil, err
			}
			e.later = append(e.later, call)
		}
		l.record(e, i, call)
	}
	return e, nil
}

// tryAgain is the code of an error after which the same call may succeed (SPEC.md, section 5).
const tryAgain = 11

// record notes how a call ended, and whether its pod is attached now.
func (l *raceLane) record(e *encounter, run int, call cni.Call) {
	p, ok := l.pods[run], call.ExitCode == 0
	if !ok && !e.got.Deadlock {
		e.wrong("%s: want success, got %s", l.who(run), summary(call))
	}
	switch verb := l.verbs[run]; {
	case verb == cni.Add && ok && json.Valid([]byte(call.Stdout)):
		p.result = json.RawMessage(call.Stdout)
		e.attached = append(e.attached, p)
	case verb == cni.Check:
		e.attached = append(e.attached, p)
	case verb == cni.Del && ok:
		l.brought.Return(l.node.Name, p.id, p.ifName)
	}
}

// addresses returns the addresses of a pod.
func addresses(p *pod) (list []netip.Addr) {
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return nil
	}
	for _, ip := range result.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			list = append(list, addr.Unmap())
		}
	}
	return list
}

// ask sends the probes, and returns those that are not answered. patient waits longer.
func (l *raceLane) ask(ctx context.Context, probes []reach, patient bool) ([]reach, error) {
	silent := make([]bool, len(probes))
	group, ctx := errgroup.WithContext(ctx)
	for i, r := range probes {
		netns := ""
		if r.from != nil {
			netns = r.from.netns
		}
		group.Go(func() error {
			for _, addr := range addresses(r.to) {
				spec := probe.Spec{Protocol: probe.ICMP, To: addr.String()}
				if !patient {
					spec.Within, spec.Attempts = quickly, 2
				}
				answer, err := l.node.Agent.Probe(ctx, netns, spec)
				if err != nil {
					return err
				}
				silent[i] = silent[i] || !answer.OK
			}
			return nil
		})
	}
	err := group.Wait()
	var list []reach
	for i, r := range probes {
		if silent[i] {
			list = append(list, r)
		}
	}
	return list, err
}

// quickly is how long a probe of a serial order may take. What takes longer is not asked for after other orders.
const quickly = 600 * time.Millisecond
