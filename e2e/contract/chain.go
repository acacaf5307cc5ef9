package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

func checkAtOnce(ctx context.Context, t *trial) error {
	b, err := t.bench(ctx, manyPods)
	if err != nil {
		return err
	}
	start, err := b.state(ctx)
	if err != nil {
		return err
	}
	count := 16
	if b.node.PoolSize > 0 {
		count = min(count, b.node.PoolSize)
	}
	if given := b.subject.lab.Request.Target.GivenDevices(); len(given) > 0 {
		count = min(count, len(given))
	}
	var pods []*pod
	for i := range count {
		p, err := b.pod(ctx, fmt.Sprintf("pod-%d", i))
		if err != nil {
			return err
		}
		pods = append(pods, p)
	}
	calls, err := b.forAll(ctx, pods, cni.Add)
	if err != nil || !b.addressesDiffer(pods, calls) {
		return err
	}
	if atLeast(t.version, "0.4.0") {
		if calls, err = b.forAll(ctx, pods, cni.Check); err != nil {
			return err
		}
		b.want(calls, "CHECK of %d pods attached at once: %s")
	}
	if calls, err = b.forAll(ctx, pods, cni.Del); err != nil {
		return err
	}
	b.want(calls, "DEL of %d pods at once: %s")
	for _, p := range pods {
		if err := b.end(ctx, p); err != nil {
			return err
		}
	}
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	left, err := b.leftAfter(ctx, start, l.residue)
	if err == nil && len(left) > 0 {
		t.wrong(calls[:1], "%d pods that were attached and deleted at once leave %s", count, first(left))
	}
	return err
}

// addressesDiffer checks that each of the pods that were added at the same time has its own address. It reports whether
// all were added.
func (b *bench) addressesDiffer(pods []*pod, calls []cni.Call) bool {
	owner := map[string]string{}
	for i, call := range calls {
		if call.ExitCode != 0 {
			b.wrong([]cni.Call{call}, "ADD of %d pods at once: %s", len(pods), summary(call))
			return false
		}
		result, err := cni.ParseResult(pods[i].result)
		if err != nil {
			return false // ADD-2 reports it
		}
		for _, ip := range result.IPs {
			if other := owner[ip.Address.String()]; other != "" {
				b.wrong([]cni.Call{call}, "ADD of %d pods at once gives %s to %s and %s", len(pods),
					ip.Address.String(), other, pods[i].name)
			}
			owner[ip.Address.String()] = pods[i].name
		}
	}
	return true
}

// want reports the first call that failed.
func (b *bench) want(calls []cni.Call, format string) {
	for _, call := range calls {
		if call.ExitCode != 0 {
			b.wrong([]cni.Call{call}, format, len(calls), summary(call))
			return
		}
	}
}

// forAll calls the subject for all pods at the same time.
func (b *bench) forAll(ctx context.Context, pods []*pod, verb cni.Verb) ([]cni.Call, error) {
	calls, errs := make([]cni.Call, len(pods)), make(chan error, len(pods))
	for i, p := range pods {
		go func() {
			var err error
			calls[i], err = b.must(ctx, verb, p)
			errs <- err
		}()
	}
	for range pods {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	return calls, nil
}

func checkOtherMains(ctx context.Context, t *trial) error {
	tried := 0
	for _, main := range otherMains() {
		if main.name == t.subject.file.Plugins[0].Type {
			continue
		}
		ran, err := t.after(ctx, main)
		if err != nil {
			return fmt.Errorf("after %s: %w", main.name, err)
		}
		if ran {
			tried++
		}
	}
	if tried == 0 {
		return notApplicable("it serves no other main plugin that is among the binaries")
	}
	return nil
}

// mainPlugin is a plugin that can be the first of a chain.
type mainPlugin struct {
	name   string
	config func(uplink string, ipam any) map[string]any
}

func otherMains() []mainPlugin {
	return []mainPlugin{
		{"macvlan", func(uplink string, ipam any) map[string]any {
			return map[string]any{"type": "macvlan", "master": uplink, "ipam": ipam}
		}},
		{"ptp", func(_ string, ipam any) map[string]any { return map[string]any{"type": "ptp", "ipam": ipam} }},
		{"bridge", func(_ string, ipam any) map[string]any {
			return map[string]any{"type": "bridge", "bridge": "cnitest0", "isGateway": true, "ipam": ipam}
		}},
		{"tap", func(_ string, ipam any) map[string]any { return map[string]any{"type": "tap", "ipam": ipam} }},
	}
}

// after attaches the subject after another main plugin.
func (t *trial) after(ctx context.Context, main mainPlugin) (ran bool, err error) {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return false, err
	}
	if ok, err := b.hasPlugin(ctx, main.name); err != nil || !ok {
		return false, err
	}
	p, err := b.attachMain(ctx, main)
	if err != nil || p == nil {
		return false, err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return false, err
	}
	add, err := b.call(ctx, cni.Add, p)
	if err != nil {
		return false, err
	}
	if add.ExitCode != 0 {
		if answer, ok := failure(add); !ok || answer.Msg == "" {
			t.wrong([]cni.Call{add}, "ADD after %s: want success or an error object, got %s", main.name, summary(add))
		}
		if _, err := b.call(ctx, cni.Del, p); err != nil {
			return false, err
		}
		left, err := b.leftAfter(ctx, before, nil, p)
		if left = onlyOf(left, p.name); err == nil && len(left) > 0 {
			t.wrong([]cni.Call{add}, "ADD after %s fails and leaves %s", main.name, first(left))
		}
		return false, err
	}
	verbs := []cni.Verb{cni.Check, cni.Del}
	if !atLeast(t.version, "0.4.0") {
		verbs = verbs[1:]
	}
	for _, verb := range verbs {
		call, err := b.must(ctx, verb, p)
		if err != nil {
			return true, err
		}
		if call.ExitCode != 0 {
			t.wrong([]cni.Call{call}, "%s after %s: want success, got %s", verb, main.name, summary(call))
		}
	}
	return true, nil
}

// attachMain attaches a pod with another main plugin. It returns nil if that is not possible here, which is not the
// subject's fault: a binary is missing, or the kernel or the network lacks something.
func (b *bench) attachMain(ctx context.Context, main mainPlugin) (*pod, error) {
	ipam := map[string]any{
		"type": "host-local", "subnet": "198.51.100.0/24", "routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
	}
	if ok, err := b.hasPlugin(ctx, "host-local"); err != nil || !ok {
		return nil, err
	}
	path, err := b.node.Agent.CreateNamespace(ctx, "first")
	if err != nil {
		return nil, err
	}
	p := &pod{name: "first", id: "cnitest-first", ifName: "eth0", netns: path}
	inv := b.invocation(cni.Add, p, 0, nil)
	config := main.config(b.node.Uplink, ipam)
	config["cniVersion"], config["name"] = b.version, b.network
	inv.plugin, inv.config = main.name, config
	call, err := b.exec(ctx, inv)
	if err != nil || call.ExitCode != 0 {
		return nil, err
	}
	p.before = json.RawMessage(call.Stdout)
	return p, nil
}

// onlyOf returns the changes in a pod.
func onlyOf(changes []snapshot.Change, scope string) []snapshot.Change {
	return slices.DeleteFunc(changes, func(c snapshot.Change) bool { return c.Item.Scope != scope })
}

func (b *bench) hasPlugin(ctx context.Context, name string) (bool, error) {
	for _, dir := range b.node.BinDirs {
		names, err := b.node.Agent.ListDir(ctx, dir)
		if err != nil || slices.Contains(names, name) {
			return err == nil, err
		}
	}
	return false, nil
}
