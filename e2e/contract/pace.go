package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/internal/calltime"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

const (
	// slowestUpstream is how much longer the slowest call of upstream's main plugins takes than a plugin that does
	// nothing: DEL of macvlan (26 and 1.5 ms), for which the kernel waits until nobody uses the link any more.
	slowestUpstream = 20
	// slowness is how many times slower than that a plugin may be: one that calls iptables again and again is half as
	// slow.
	slowness = 10
	// growthLimit is the time by which an attachment may slow later calls, as a fraction of the time of a plugin that
	// does nothing. With the 110 pods that a kubelet runs, calls then take longer by the time of 27 such plugins.
	growthLimit = 0.25
	// addressDetection is the longest time that the kernel needs to find an IPv6 address unique: it waits up to 1 s and
	// asks once, for 1 s (RFC 4862, section 5.4). ADD is right to wait for that.
	addressDetection = 2 * time.Second
)

const (
	// paceAttachments is the number of attachments on the node at the end of a sweep, paceLeast the smallest one. A
	// sweep that takes longer than paceBudget ends early, and no other follows. On a busy machine it may take as long
	// as paceCalls calls of a plugin that does nothing, which take 1.5 ms each on an idle one.
	paceAttachments = 10
	paceLeast       = 4
	// fitLeast is the number of calls that are needed to fit a line, and fitErrors the number of standard errors by
	// which it must rise.
	fitLeast   = 8
	fitErrors  = 4
	paceSweeps = 2
	paceBudget = 4 * time.Second
	paceCalls  = 2500
)

// pacing returns the requirements about how long calls take.
func pacing() []Requirement {
	const how = "Attaches ten pods to one node, checks and deletes them, twice, with a plugin that does nothing " +
		"before each call: the quickest VERSION of the plugins of the chain and of cnitest's own one. "
	return []Requirement{
		{
			ID: "TIM-1", Level: Should, Section: "failure mode", Roles: everyPlugin(), Covers: []string{"E12"},
			Text: fmt.Sprintf("ADD, CHECK and DEL on an idle node take at most %d times as long as the slowest of "+
				"upstream's main plugins.", slowness),
			Why: "A pod starts when the last plugin of its chain has answered, and a node's pods start one after " +
				"the other where a plugin holds a lock.",
			How: how + fmt.Sprintf("The quickest call of each verb takes at most %d times what that takes, of which "+
				"upstream's slowest needs %d. The time in which the kernel looks for duplicates of an IPv6 address "+
				"is left out.",
				slowness*slowestUpstream, slowestUpstream),
			check: checkQuick, long: true,
		},
		{
			ID: "TIM-2", Level: Should, Section: "failure mode", Roles: everyPlugin(), Covers: []string{"E12"},
			Text: "ADD, CHECK and DEL take no longer for the attachments that a node has already.",
			Why:  "A node that is full of pods is the one that restarts them all, after a reboot, and times out.",
			How: how + fmt.Sprintf("An attachment adds less than %g times what that takes to a later call, by %d "+
				"standard errors of the fit.", growthLimit, fitErrors),
			check: checkSteady, // TIM-1 makes the calls
		},
	}
}

// pace contains how long the calls of all plugins of a chain took on one node, with and without attachments on it. It
// is measured once.
type pace struct {
	mu      sync.Mutex
	known   bool
	series  map[calltime.Key]calltime.Series
	ipv6    bool // the pods have IPv6 addresses
	nothing string
	err     error
	record  *disturbance.Record
}

// Series returns the paired calls of a verb of a plugin; none if they were not measured.
func (s *Subject) Series(key calltime.Key) calltime.Series {
	p := s.lab.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.series[key]
}

// pace returns the measured times.
func (t *trial) pace(ctx context.Context) (*pace, error) {
	p := t.subject.lab.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known {
		p.known, p.series = true, map[calltime.Key]calltime.Series{}
		var own context.Context
		own, p.record = disturbance.Begin(ctx)
		p.err = t.measure(own, p)
		p.record.End()
	}
	disturbance.Of(ctx).Include(p.record)
	return p, p.err
}

// forget drops what was measured on a machine that was too busy.
func (p *pace) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known && p.record.Finding().Doubtful {
		p.known = false
	}
}

// measure attaches and deletes pods as the conflist says.
func (t *trial) measure(ctx context.Context, p *pace) error {
	b, err := t.bench(ctx, manyPods)
	if err != nil {
		return err
	}
	defer func() { p.record.Ask(context.WithoutCancel(ctx), b.cluster) }()
	if err := b.node.Agent.InstallStubs(ctx); err != nil {
		return err
	}
	m := &pacer{bench: b, pace: p}
	if version := t.subject.file.CNIVersion; version != "" {
		// The chain runs at its own version, whatever versions its plugins support.
		b.trial = &trial{subject: t.subject, requirement: t.requirement, version: version}
	}
	if err := m.chooseNothing(ctx); err != nil {
		return err
	}
	size := paceAttachments
	if b.node.PoolSize > 0 {
		size = min(size, b.node.PoolSize-1)
	}
	// The first pod makes shared state; its calls show how long that takes.
	if _, err := m.sweep(ctx, "cold", 1); err != nil {
		return err
	}
	clear(p.series)
	begin := machinetime.Start()
	for i := range paceSweeps {
		reached, err := m.sweep(ctx, fmt.Sprint("sweep", i), size)
		if err != nil {
			return err
		}
		if reached < size || begin.Given() > m.budget() {
			break
		}
	}
	return nil
}

// pacer makes calls and records their times.
type pacer struct {
	*bench
	pace *pace
	// idle calls a plugin that does nothing, and returns the time.
	idle func(ctx context.Context) (time.Duration, error)
	// idled is the sum of the times that idle returned in idles calls.
	idled time.Duration
	idles int
}

// budget returns how long a sweep may take.
func (m *pacer) budget() time.Duration {
	return max(paceBudget, paceCalls*m.idled/time.Duration(max(1, m.idles)))
}

// chooseNothing finds the quickest plugin that does nothing: plugins are programs in many languages.
func (m *pacer) chooseNothing(ctx context.Context) error {
	const tries = 3
	best := time.Duration(-1)
	for _, plugin := range append(m.subject.file.Types(), stub.Chained) {
		ask := func(ctx context.Context) (time.Duration, error) {
			inv := &invocation{
				plugin: plugin, env: map[string]string{"CNI_COMMAND": string(cni.Version)},
				config: map[string]any{"cniVersion": m.version},
			}
			args, err := m.arguments(inv)
			if err != nil {
				return 0, err
			}
			args.BinDirs = append(slices.Clone(args.BinDirs), stub.Dir)
			call, err := m.node.Agent.Plugin(ctx, args)
			return call.Duration, err
		}
		for range tries {
			took, err := ask(ctx)
			if err != nil {
				return err
			}
			if best < 0 || took < best {
				best, m.idle, m.pace.nothing = took, ask, plugin
			}
		}
	}
	return nil
}

// sweep attaches pods one after the other and deletes them in the opposite order. It returns how many there were.
func (m *pacer) sweep(ctx context.Context, name string, size int) (reached int, err error) {
	begin := machinetime.Start()
	var pods []*pacedPod
	for i := range size {
		if i >= paceLeast && begin.Given() > m.budget() {
			break
		}
		p, err := m.attachChain(ctx, fmt.Sprint(name, "-", i), i)
		if err != nil {
			return 0, err
		}
		pods = append(pods, p)
	}
	for i, p := range slices.Backward(pods) {
		if err := m.deleteChain(ctx, p, i); err != nil {
			return 0, err
		}
	}
	return len(pods), nil
}

// pacedPod is a pod and the result of its chain.
type pacedPod struct {
	*pod
	result json.RawMessage
}

// attachChain attaches a pod by all plugins of the chain, checks it, and asks the IPAM plugin alone for one more
// address.
func (m *pacer) attachChain(ctx context.Context, name string, present int) (*pacedPod, error) {
	path, err := m.namespace(ctx, name)
	if err != nil {
		return nil, err
	}
	p := &pacedPod{pod: &pod{name: name, id: "cnitest-" + name, ifName: "eth0", netns: path}}
	for i, plugin := range m.subject.file.Plugins {
		if plugin.IPAM != "" {
			if err := m.askIPAM(ctx, p, i, present); err != nil {
				return nil, err
			}
		}
		call, err := m.timed(ctx, m.invocation(cni.Add, p.pod, i, p.result), present)
		if err != nil {
			return nil, err
		}
		if !json.Valid([]byte(call.Stdout)) {
			return nil, &addError{call}
		}
		p.result = json.RawMessage(call.Stdout)
	}
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return nil, err
	}
	for _, ip := range result.IPs {
		m.pace.ipv6 = m.pace.ipv6 || ip.Address.IP.To4() == nil
	}
	if !atLeast(m.version, "0.4.0") {
		return p, nil
	}
	for i := range m.subject.file.Plugins {
		if _, err := m.timed(ctx, m.invocation(cni.Check, p.pod, i, p.result), present); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// namespace makes a pod's namespace in which the kernel does not look for duplicates of IPv6 addresses: ADD would wait
// for that a hundred times longer than it works.
func (m *pacer) namespace(ctx context.Context, name string) (string, error) {
	path, err := m.node.Agent.CreateNamespace(ctx, name)
	if err != nil || !slices.ContainsFunc(m.node.Networks, func(n netip.Prefix) bool { return n.Addr().Is6() }) {
		return path, err
	}
	return path, m.node.Agent.SetSysctls(ctx, path, map[string]string{
		"net.ipv6.conf.default.accept_dad": "0", "net.ipv6.conf.all.accept_dad": "0",
	})
}

// askIPAM lets the delegated IPAM plugin assign an address and release it, and measures nothing if it refuses.
func (m *pacer) askIPAM(ctx context.Context, p *pacedPod, index, present int) error {
	other := *p.pod
	other.id += "-ipam"
	for _, verb := range []cni.Verb{cni.Add, cni.Del} {
		inv := m.invocation(verb, &other, index, nil)
		inv.plugin = m.subject.file.Plugins[index].IPAM
		var failed *addError
		if _, err := m.timed(ctx, inv, present); err != nil && !errors.As(err, &failed) {
			return err
		}
	}
	m.brought.Return(m.node.Name, other.id, other.ifName)
	return nil
}

// deleteChain deletes a pod as a runtime does.
func (m *pacer) deleteChain(ctx context.Context, p *pacedPod, present int) error {
	for i := range slices.Backward(m.subject.file.Plugins) {
		if _, err := m.timed(ctx, m.invocation(cni.Del, p.pod, i, m.given(p.result)), present); err != nil {
			return err
		}
	}
	m.brought.Return(m.node.Name, p.id, p.ifName)
	return m.node.Agent.RemoveNamespace(ctx, p.name)
}

// timed makes a call after one of the plugin that does nothing. If it fails, the error is an *addError, and nothing is
// measured.
func (m *pacer) timed(ctx context.Context, inv *invocation, present int) (cni.Call, error) {
	nothing, err := m.idle(ctx)
	if err != nil {
		return cni.Call{}, err
	}
	m.idled, m.idles = m.idled+nothing, m.idles+1
	call, err := m.exec(ctx, inv)
	if err != nil {
		return call, err
	}
	if call.Failed() {
		return call, &addError{call}
	}
	m.subject.lab.Times.Keep(call)
	key := calltime.Key{Plugin: inv.plugin, Verb: call.Verb}
	m.pace.series[key] = append(m.pace.series[key], calltime.Sample{
		Present: present, Took: call.Duration, Nothing: nothing,
	})
	return call, nil
}

// verbTimes contains the measured calls of one verb of the subject.
type verbTimes struct {
	verb cni.Verb
	calltime.Series
}

// timesOf returns the measured calls of the subject, for each verb with enough of them.
func (t *trial) timesOf(ctx context.Context) ([]verbTimes, *pace, error) {
	if _, leased := t.subject.file.DHCP(); leased {
		return nil, nil, notApplicable("how long a lease takes is its server's affair")
	}
	if cluster.IsExclusive(t.subject.lab.Backend) && t.subject.lab.Request.Target.GivenDaemon() != nil {
		return nil, nil, notApplicable("the machines exist once, and the daemon answers for all of them")
	}
	p, err := t.pace(ctx)
	if err != nil {
		return nil, nil, err
	}
	var found []verbTimes
	for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del} {
		if s := p.series[calltime.Key{Plugin: t.subject.Type, Verb: verb}]; len(s) >= paceLeast {
			found = append(found, verbTimes{verb, s})
		}
	}
	if len(found) == 0 {
		return nil, nil, notApplicable("the node has room for too few attachments")
	}
	return found, p, nil
}

func checkQuick(ctx context.Context, t *trial) error {
	times, p, err := t.timesOf(ctx)
	if err != nil {
		return err
	}
	for _, s := range times {
		took, note := s.Quickest(), ""
		if p.ipv6 && s.verb == cni.Add {
			took, note = took-addressDetection, fmt.Sprintf(", without %s for IPv6 addresses", addressDetection)
		}
		if ratio := float64(took) / float64(s.Nothing()); ratio > slowness*slowestUpstream {
			t.wrong(nil, "%s takes %s at least%s, %.0f times as long as a plugin that does nothing (%s); want at most "+
				"%d times, %d times as long as the slowest of upstream's main plugins", s.verb, round(s.Quickest()),
				note, ratio, round(s.Nothing()), slowness*slowestUpstream, slowness)
		}
	}
	return nil
}

func checkSteady(ctx context.Context, t *trial) error {
	times, _, err := t.timesOf(ctx)
	if err != nil {
		return err
	}
	for _, s := range times {
		growth, uncertainty := s.Growth()
		if len(s.Series) < fitLeast {
			return notApplicable("calls take too long to be made often enough")
		}
		if growth-fitErrors*uncertainty <= growthLimit {
			continue
		}
		in := func(f float64) time.Duration { return round(time.Duration(f * float64(s.Nothing()))) }
		t.wrong(
			nil,
			"%s takes %s ± %s longer for each attachment that the node has, %.1f times what a plugin that does "+
				"nothing takes; want less than %g times",
			s.verb,
			in(growth),
			in(uncertainty),
			growth,
			growthLimit,
		)
	}
	return nil
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
