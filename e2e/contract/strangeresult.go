package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// strangeResult is a previous result as another version of the plugin, or of a runtime, may have left it.
type strangeResult struct {
	what string
	edit func(result map[string]any)
}

// strangeResults returns results that have more than the plugin's own, or less. An IPAM plugin has no interfaces.
func strangeResults() []strangeResult {
	interfaces := func(result map[string]any) []any {
		list, _ := result["interfaces"].([]any)
		return list
	}
	return []strangeResult{
		// aws/amazon-vpc-cni-k8s#2321: a version before this one added a device that existed nowhere.
		{"another interface first, with the MAC 0 and no sandbox", func(result map[string]any) {
			ips, _ := result["ips"].([]any)
			for _, ip := range ips {
				if object, ok := ip.(map[string]any); ok && object["interface"] != nil {
					n, _ := object["interface"].(float64)
					object["interface"] = n + 1
				}
			}
			result["interfaces"] = slices.Concat([]any{map[string]any{"name": "cnitest-dummy", "mac": "0"}},
				interfaces(result))
		}},
		{"another interface last, with no MAC and the sandbox of another pod", func(result map[string]any) {
			result["interfaces"] = append(interfaces(result), map[string]any{
				"name": "cnitest-dummy", "sandbox": agent.NamespacePath("never"),
			})
		}},
		{"keys that nobody knows", func(result map[string]any) {
			result["cnitest"] = map[string]any{"version": 2}
			for _, i := range interfaces(result) {
				if object, ok := i.(map[string]any); ok {
					object["cnitest"] = []any{"a", 1, nil}
				}
			}
		}},
		{"no interfaces", func(result map[string]any) { delete(result, "interfaces") }},
		{"no addresses", func(result map[string]any) { delete(result, "ips") }},
		{"an address of an interface that is not listed", func(result map[string]any) {
			ips, _ := result["ips"].([]any)
			for _, ip := range ips {
				if object, ok := ip.(map[string]any); ok {
					object["interface"] = 7
				}
			}
		}},
		{"nothing but its version", func(result map[string]any) {
			maps.DeleteFunc(result, func(key string, _ any) bool { return key != "cniVersion" })
		}},
	}
}

func checkStrangeResult(ctx context.Context, t *trial) error {
	if !atLeast(t.version, "0.4.0") {
		return notApplicable("before CNI 0.4.0 DEL gets no prevResult")
	}
	b, err := t.bench(ctx, manyPods)
	if err != nil {
		return err
	}
	if _, err := b.lifecycle(ctx); err != nil {
		return err
	}
	common, err := b.ordinary(ctx)
	if err != nil {
		return err
	}
	for i, strange := range strangeResults() {
		if err := b.deleteStrange(ctx, fmt.Sprintf("strange-%d", i), strange, common); err != nil {
			return fmt.Errorf("prevResult with %s: %w", strange.what, err)
		}
	}
	return nil
}

// deletion is what DEL of a pod left.
type deletion struct {
	call cni.Call
	left []snapshot.Change
	// again means that DEL may be called again, as usual.
	again bool
}

// ordinary attaches pods and deletes them as usual, and returns what DEL of the second one left, which other
// requirements judge: the first one also leaves what a node keeps.
func (b *bench) ordinary(ctx context.Context) (d deletion, err error) {
	for _, name := range []string{"common-0", "common-1"} {
		if d, err = b.comeAndGo(ctx, name); err != nil {
			return d, err
		}
	}
	return d, nil
}

// comeAndGo attaches a pod, deletes it with an edited DEL, and again as usual, so that the next pod finds the node as
// this one did.
func (b *bench) comeAndGo(ctx context.Context, name string, edits ...func(*invocation)) (d deletion, err error) {
	p, err := b.pod(ctx, name)
	if err != nil {
		return d, err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return d, err
	}
	if _, err := b.add(ctx, p); err != nil {
		return d, err
	}
	if d.call, err = b.must(ctx, cni.Del, p, edits...); err != nil {
		return d, err
	}
	if d.left, err = b.leftAfter(ctx, before, nil, p); err != nil {
		return d, err
	}
	again, err := b.must(ctx, cni.Del, p)
	if err != nil {
		return d, err
	}
	d.again = again.ExitCode == 0
	return d, b.end(ctx, p)
}

// beyond returns the changes of which others have none of the same kind. Their names are those of other pods.
func beyond(changes, others []snapshot.Change) []snapshot.Change {
	others = slices.Clone(others)
	return slices.DeleteFunc(slices.Clone(changes), func(c snapshot.Change) bool {
		i := slices.IndexFunc(others, func(o snapshot.Change) bool {
			return o.Op == c.Op && o.Item.Kind == c.Item.Kind
		})
		if i < 0 {
			return false
		}
		others = slices.Delete(others, i, i+1)
		return true
	})
}

// deleteStrange deletes a pod with a strange prevResult.
func (b *bench) deleteStrange(ctx context.Context, name string, strange strangeResult, common deletion) error {
	var failed error
	d, err := b.comeAndGo(ctx, name, func(inv *invocation) {
		previous, _ := inv.config["prevResult"].(json.RawMessage)
		var result map[string]any
		if failed = json.Unmarshal(previous, &result); failed == nil {
			strange.edit(result)
			inv.config["prevResult"] = result
		}
	})
	switch {
	case err != nil:
		return err
	case failed != nil:
		return notApplicable("ADD prints no result that could be changed: %v", failed)
	}
	b.clean(aftermath{d.call, beyond(d.left, common.left)}, "DEL with a prevResult that has "+strange.what)
	return nil
}

// otherLink is the link of a pod that no plugin under test made, and its other end.
const (
	otherLink     = "cnitest-other"
	otherLinkPeer = "cnitest-other2"
)

// removeLinks removes the links of a pod but lo, as far as they are not spared. What went with another one is gone.
func (b *bench) removeLinks(ctx context.Context, p *pod, spared func(name string) bool) error {
	links, err := b.node.Agent.Links(ctx, p.netns)
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Name == "lo" || spared(l.Name) {
			continue
		}
		_ = b.node.Agent.Revert(ctx, agent.RevertArgs{
			Change: snapshot.Change{
				Op: snapshot.Added, Item: snapshot.Item{Scope: p.name, Kind: snapshot.Link, Name: l.Name},
			},
			Namespaces: map[string]string{p.name: p.netns},
		})
	}
	return nil
}

func checkOtherInterfacesGone(ctx context.Context, t *trial) error {
	if _, err := t.lifecycle(ctx); err != nil {
		return err
	}
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	common, err := b.ordinary(ctx)
	if err != nil {
		return err
	}
	if err := b.node.Agent.AddLink(ctx, agent.AddLinkArgs{
		Netns: p.netns, Name: otherLink, PeerNetns: p.netns, PeerName: otherLinkPeer,
	}); err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	links, err := b.node.Agent.Links(ctx, p.netns)
	if err != nil {
		return err
	}
	if _, err := b.add(ctx, p); err != nil {
		return err
	}
	theirs := func(name string) bool {
		return slices.ContainsFunc(links, func(l agent.Link) bool { return l.Name == name })
	}
	if err := b.removeLinks(ctx, p, func(name string) bool { return !theirs(name) }); err != nil {
		return err
	}
	for _, again := range []string{"", " again"} {
		del, err := b.must(ctx, cni.Del, p)
		if err != nil {
			return err
		}
		left, err := b.leftAfter(ctx, before, nil, p)
		if err != nil {
			return err
		}
		left = beyond(added(left), common.left)
		b.clean(aftermath{del, left}, "DEL"+again+" after the other interfaces of the pod went")
		if !common.again {
			break
		}
	}
	if t.subject.Role != Main {
		return nil
	}
	return t.secondAfterFirst(ctx, common)
}

// secondAfterFirst attaches a pod twice, removes the link of the first attachment, and deletes both.
func (t *trial) secondAfterFirst(ctx context.Context, common deletion) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	if _, err := b.add(ctx, p); err != nil {
		return err
	}
	second := *p
	second.ifName = "net1"
	call, err := b.call(ctx, cni.Add, &second)
	if err != nil || call.ExitCode != 0 {
		return err // it gives a pod one interface
	}
	if err := b.removeLinks(ctx, p, func(name string) bool { return name != p.ifName }); err != nil {
		return err
	}
	for _, attachment := range []*pod{&second, p} {
		del, err := b.must(ctx, cni.Del, attachment)
		if err != nil {
			return err
		}
		if del.ExitCode != 0 && attachment == p {
			return nil // its own link went, which DEL-3 is about
		}
		if del.ExitCode != 0 {
			t.wrong([]cni.Call{del}, "DEL of %s after the link eth0 of the pod's other attachment went: want success, "+
				"got %s", attachment.ifName, summary(del))
			return nil
		}
	}
	l, err := b.lifecycle(ctx)
	if err != nil {
		return err
	}
	left, err := b.leftAfter(ctx, before, l.residue, p)
	if left = beyond(added(left), slices.Repeat(common.left, 2)); err == nil && len(left) > 0 {
		t.deviation(nil, "DEL of both attachments, after the link of one went, leaves "+first(left))
	}
	return err
}
