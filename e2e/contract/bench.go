package contract

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/offer"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// deadline is the time for one call: runtimes give a whole sandbox two to four minutes (failure mode E12).
const deadline = 10 * time.Second

// bench is a node on which nothing has been attached yet.
type bench struct {
	*trial
	cluster cluster.Cluster
	node    *cluster.Node
	// configs contains the plugins of the chain, as in the node's configuration.
	configs []map[string]any
	network string
	// podName is the K8S_POD_NAME of all pods; empty means that each has its own.
	podName string
	// brought contains the addresses that the runtime passes.
	brought *offer.Desk
	pods    int // that the check made
}

// bench makes a node for the check, which is closed with the check.
func (t *trial) bench(ctx context.Context, edit func(*cluster.Request)) (*bench, error) {
	c, err := t.subject.lab.start(ctx, edit)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.closer = append(t.closer, c)
	t.mu.Unlock()
	b := &bench{trial: t, cluster: c, node: c.Nodes()[0], brought: offer.NewDesk()}
	list, err := conflist.ParseRendered(b.node.Conflist)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.node.Name, err)
	}
	b.network, b.configs = list.Name, list.Plugins
	return b, nil
}

// fresh returns a new bench with a pod, in which the plugins before the subject are attached.
func (t *trial) fresh(ctx context.Context) (*bench, *pod, error) {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	p, err := b.pod(ctx, "first")
	return b, p, err
}

// attached returns a new bench with a pod, in which the subject is attached, too.
func (t *trial) attached(ctx context.Context) (*bench, *pod, error) {
	b, p, err := t.fresh(ctx)
	if err == nil {
		_, err = b.add(ctx, p)
	}
	return b, p, err
}

// sharedBench returns the node of all checks that only read answers and leave nothing attached.
func (t *trial) sharedBench(ctx context.Context) (*bench, error) {
	s := t.subject
	_, err, _ := s.once.Do("shared bench", func() (any, error) {
		s.mu.Lock()
		known := s.shared
		s.mu.Unlock()
		if known != nil {
			// On machines that exist, the next cluster ends it.
			if _, err := known.node.Agent.Hello(ctx); err == nil {
				return nil, nil
			}
			_ = known.cluster.Close()
		}
		owner := &trial{subject: s, requirement: t.requirement, version: t.version}
		b, err := owner.bench(ctx, nil)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.shared = b
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared == nil {
		return nil, errors.New("the run was stopped")
	}
	shared := *s.shared
	shared.trial = t
	return &shared, nil
}

// pod is the namespace of a pod, with what is attached in it.
type pod struct {
	name, id, ifName, netns string
	// before is the result of the plugins before the subject; empty if there are none.
	before json.RawMessage
	// results contains the result of each plugin before the subject.
	results []json.RawMessage
	// result is the result of the subject.
	result json.RawMessage
	// link is the result of the main plugin alone, if an IPAM plugin needs its interface.
	link json.RawMessage
}

// pod makes a namespace and attaches the plugins before the subject. The same name gives the same identifiers.
func (b *bench) pod(ctx context.Context, name string) (*pod, error) {
	return b.podWithID(ctx, name, "cnitest-"+name)
}

// podWithID does the same as pod, with a container id.
func (b *bench) podWithID(ctx context.Context, name, id string) (*pod, error) {
	b.pods++
	path, err := b.node.Agent.CreateNamespace(ctx, name)
	if err != nil && strings.Contains(err.Error(), syscall.EEXIST.Error()) {
		// The check runs a second time, on the bench that checks share.
		name, id = name+"-again", id+"-again"
		path, err = b.node.Agent.CreateNamespace(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	p := &pod{name: name, id: id, ifName: "eth0", netns: path}
	return p, b.attachBefore(ctx, p)
}

// makeLink makes the interface that an IPAM plugin such as dhcp needs: the main plugin runs without IPAM.
func (b *bench) makeLink(ctx context.Context, p *pod) error {
	if b.subject.Type != conflist.DHCPPlugin {
		return nil
	}
	call, err := b.exec(ctx, b.withoutIPAM(cni.Add, p, nil))
	if err != nil {
		return err
	}
	if call.ExitCode != 0 {
		return notApplicable("%s asks through an interface of the pod, and %s makes none without IPAM: %s",
			b.subject.Type, b.subject.file.Plugins[b.subject.index].Type, summary(call))
	}
	p.link = json.RawMessage(call.Stdout)
	return nil
}

// withoutIPAM returns an invocation of the plugin that delegates to the subject, without IPAM.
func (b *bench) withoutIPAM(verb cni.Verb, p *pod, prevResult json.RawMessage) *invocation {
	inv := b.invocation(verb, p, b.subject.index, prevResult)
	delete(inv.config, "ipam")
	if oldest := "0.3.1"; !atLeast(b.version, oldest) {
		inv.config["cniVersion"] = oldest // a result of older ones has addresses
	}
	return inv
}

// release deletes what the plugins before the subject attached.
func (b *bench) release(ctx context.Context, p *pod) error {
	if p.link != nil {
		_, err := b.exec(ctx, b.withoutIPAM(cni.Del, p, b.given(p.link)))
		p.link = nil
		return err
	}
	for i := len(p.results) - 1; i >= 0; i-- {
		call, err := b.exec(ctx, b.invocation(cni.Del, p, i, b.given(p.results[len(p.results)-1])))
		if err != nil {
			return err
		}
		if call.ExitCode != 0 {
			return fmt.Errorf("%s, which stands before %s: DEL at CNI %s: %s", b.subject.file.Plugins[i].Type,
				b.subject.Type, b.version, summary(call))
		}
	}
	p.results = nil
	return nil
}

// given returns prevResult for verbs other than ADD, if the version has it (since 0.4.0).
func (b *bench) given(result json.RawMessage) json.RawMessage {
	if !atLeast(b.version, "0.4.0") {
		return nil
	}
	return result
}

// invocation is one execution of a plugin, which a check may edit first.
type invocation struct {
	plugin string
	env    map[string]string
	config map[string]any
	// stdin replaces config if it is not nil.
	stdin []byte
	// stdinFrom is a file or directory that replaces both if it is not empty.
	stdinFrom string
	// path replaces the PATH of the node if it is not nil.
	path    *string
	timeout time.Duration
}

// invocation returns what a runtime passes to plugin i of the chain.
func (b *bench) invocation(verb cni.Verb, p *pod, i int, prevResult json.RawMessage) *invocation {
	inv := &invocation{plugin: b.subject.file.Plugins[i].Type, config: maps.Clone(b.configs[i])}
	inv.config["cniVersion"], inv.config["name"] = b.version, b.network
	delete(inv.config, "capabilities")
	var brings offer.Offer
	if way, at := b.subject.file.Brought(); p != nil && at == i {
		brings.Bring(way, b.brought.Addresses(b.node.Name, b.node.PodAddresses, p.id, p.ifName))
	}
	key, _ := b.subject.file.DeviceKey()
	devices := offer.Values(b.subject.lab.Request.Target.GivenDevices(), b.node.Devices, key)
	if key != "" && len(devices) > 0 && p != nil && i == 0 {
		inv.config[key] = b.brought.Devices.Take(b.node.Name, devices, p.id, p.ifName)
	}
	if brings.Capabilities != nil {
		inv.config["runtimeConfig"] = brings.Capabilities
	}
	if brings.IPs != nil {
		inv.config["args"] = brings.ArgsOf(inv.config)
	}
	if len(prevResult) > 0 {
		inv.config["prevResult"] = prevResult
	}
	inv.env = map[string]string{"CNI_COMMAND": string(verb), "CNI_PATH": strings.Join(b.node.BinDirs, ":")}
	if p != nil {
		inv.env["CNI_CONTAINERID"], inv.env["CNI_NETNS"], inv.env["CNI_IFNAME"] = p.id, p.netns, p.ifName
		inv.env["CNI_ARGS"] = fmt.Sprintf("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=%s",
			cmp.Or(b.podName, p.name))
		for _, pair := range brings.Args {
			inv.env["CNI_ARGS"] += ";" + pair[0] + "=" + pair[1]
		}
	}
	return inv
}

// arguments returns an invocation in the form of an agent's request.
func (b *bench) arguments(inv *invocation) (agent.PluginArgs, error) {
	stdin := inv.stdin
	if stdin == nil {
		var err error
		if stdin, err = json.Marshal(inv.config); err != nil {
			return agent.PluginArgs{}, err
		}
	}
	args := agent.PluginArgs{
		Plugin: inv.plugin, BinDirs: b.node.BinDirs, Stdin: stdin, StdinFrom: inv.stdinFrom,
		Timeout: cmp.Or(inv.timeout, deadline),
	}
	for _, key := range slices.Sorted(maps.Keys(inv.env)) {
		args.Env = append(args.Env, key+"="+inv.env[key])
	}
	if inv.path != nil {
		args.Env = append(args.Env, "PATH="+*inv.path)
	}
	return args, nil
}

// exec makes a call. Its error is about the lab, never about the plugin.
func (b *bench) exec(ctx context.Context, inv *invocation) (cni.Call, error) {
	args, err := b.arguments(inv)
	if err != nil {
		return cni.Call{}, err
	}
	call, err := b.node.Agent.Plugin(ctx, args)
	if err == nil && b.pods > 1 && b.subject.occupied(call) {
		return call, notApplicable("%s", b.subject.file.OnePod())
	}
	return call, err
}

// occupied reports whether the kernel refuses what another pod already has, since the file gives it to each: the whole
// parent, in mode passthru, or a MAC (macvlan_common_newlink, macvlan_open).
func (s *Subject) occupied(call cni.Call) bool {
	refused := func(reason syscall.Errno) bool {
		return call.ExitCode != 0 && strings.Contains(summary(call), reason.Error())
	}
	return s.file.Passthru() && refused(syscall.EINVAL) || s.file.OneMAC() && refused(syscall.EADDRINUSE)
}

// subjectInvocation returns what a runtime passes to the subject: the result of the plugins before it as prevResult of
// ADD, its own result for other verbs.
func (b *bench) subjectInvocation(verb cni.Verb, p *pod, edits ...func(*invocation)) *invocation {
	var prevResult json.RawMessage
	if p != nil {
		prevResult = p.before
		if verb != cni.Add {
			prevResult = b.given(p.result)
		}
	}
	inv := b.invocation(verb, p, b.subject.index, prevResult)
	inv.plugin = b.subject.Type
	for _, edit := range edits {
		edit(inv)
	}
	return inv
}

// call calls the subject.
func (b *bench) call(ctx context.Context, verb cni.Verb, p *pod, edits ...func(*invocation)) (cni.Call, error) {
	inv := b.subjectInvocation(verb, p, edits...)
	call, err := b.exec(ctx, inv)
	if err != nil {
		return call, err
	}
	b.subject.observe(observedCall{
		Call: call, requirement: b.requirement.ID, version: b.version, record: disturbance.Of(ctx),
	})
	if verb == cni.Del && call.ExitCode == 0 && p != nil {
		b.brought.Return(b.node.Name, p.id, p.ifName)
	}
	if verb == cni.Add && call.ExitCode == 0 && p != nil && json.Valid([]byte(call.Stdout)) {
		p.result = json.RawMessage(call.Stdout)
	}
	return call, nil
}

// hasPool returns an error unless the IPAM plugin chooses the addresses.
func (t *trial) hasPool() error {
	way, _ := t.subject.file.Brought()
	_, leased := t.subject.file.DHCP()
	switch {
	case leased:
		return notApplicable("the addresses are the DHCP server's: the plugin has no pool")
	case way != "":
		return notApplicable("the runtime brings the addresses (%s): there is no pool that could be empty", way)
	case t.subject.file.OneAddress():
		return notApplicable("the file gives every pod the same addresses: there is no pool that could be empty")
	}
	return nil
}

// add attaches a pod, and reports a deviation if ADD fails: without an attachment the check has nothing to examine.
func (b *bench) add(ctx context.Context, p *pod, edits ...func(*invocation)) (cni.Call, error) {
	call, err := b.must(ctx, cni.Add, p, edits...)
	if err == nil && call.ExitCode != 0 {
		err = &addError{call}
	}
	return call, err
}

// refused checks that ADD fails with an error object, and leaves nothing.
func (b *bench) refused(ctx context.Context, before snapshot.State, p *pod, what string,
	edits ...func(*invocation),
) error {
	call, err := b.call(ctx, cni.Add, p, edits...)
	if err != nil {
		return err
	}
	if call.ExitCode == 0 {
		b.wrong([]cni.Call{call}, "%s succeeds, want an error", what)
		return nil
	}
	if _, ok := failure(call); !ok {
		b.wrong([]cni.Call{call}, "%s: want an error object on stdout, got %s", what, summary(call))
	}
	left, err := b.leftOfFailure(ctx, before, p)
	if err == nil && len(left) > 0 {
		b.wrong([]cni.Call{call}, "%s fails and leaves something: %s", what, first(left))
	}
	return err
}

// attach makes a pod and attaches the subject in it.
func (b *bench) attach(ctx context.Context, name string, edits ...func(*invocation)) (*pod, error) {
	p, err := b.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	_, err = b.add(ctx, p, edits...)
	return p, err
}

// state returns the state of the node and of pods without sysctls, which outnumber everything else.
func (b *bench) state(ctx context.Context, pods ...*pod) (snapshot.State, error) {
	return b.take(ctx, snapshot.KindsThat(func(k snapshot.Kind) bool { return !k.Many }), pods)
}

// wholeState returns the state with sysctls.
func (b *bench) wholeState(ctx context.Context, pods ...*pod) (snapshot.State, error) {
	return b.take(ctx, nil, pods)
}

func (b *bench) take(ctx context.Context, kinds []string, pods []*pod) (snapshot.State, error) {
	args := agent.SnapshotArgs{Kinds: kinds, Namespaces: map[string]string{}}
	for _, p := range pods {
		args.Namespaces[p.name] = p.netns
	}
	return b.node.Agent.Snapshot(ctx, args)
}

// summary returns the outcome of a call in a line.
func summary(c cni.Call) string {
	if c.Failure != "" {
		return c.Failure
	}
	text := fmt.Sprintf("exit status %d", c.ExitCode)
	var answer cni.Error
	if err := json.Unmarshal([]byte(c.Stdout), &answer); err == nil && answer.Msg != "" {
		return fmt.Sprintf("%s, code %d: %s", text, answer.Code, strings.TrimSpace(answer.Msg+" "+answer.Details))
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(c.Stdout+" "+c.Stderr), "\n"); line != "" {
		return text + ": " + line
	}
	return text
}

// failure returns the error object that a call printed.
func failure(c cni.Call) (cni.Error, bool) {
	var answer struct {
		Code *uint  `json:"code"`
		Msg  string `json:"msg"`
	}
	if err := json.Unmarshal([]byte(c.Stdout), &answer); err != nil || answer.Code == nil {
		return cni.Error{}, false
	}
	return cni.Error{Code: *answer.Code, Msg: answer.Msg}, true
}
