package contract

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// provocation is one item that ADD made and that was then removed, alone, on a node of its own, with the answers of
// CHECK and DEL.
type provocation struct {
	mutation
	check, del cni.Call
	// left is what DEL left behind.
	left []snapshot.Change
	// skipped says why it could not be provoked.
	skipped string
}

// provocations are all provocations of a subject, and how the machine was disturbed meanwhile.
type provocations struct {
	list   []*provocation
	record *disturbance.Record
}

// outlasting returns what DEL should not have left. Without the record of the plugin nobody knows how the pod was
// before, and the pod's state ends with it.
func (p *provocation) outlasting() []snapshot.Change {
	if p.down || !isRecord(p.change) {
		return p.left
	}
	return slices.DeleteFunc(slices.Clone(p.left), func(c snapshot.Change) bool { return c.Item.Scope != "" })
}

// isRecord reports whether a change is a record of the plugin, on a file system that ends with the kernel's state.
func isRecord(c snapshot.Change) bool {
	return c.Item.Kind == snapshot.File && (strings.HasPrefix(c.Item.Name, "/run/") ||
		strings.HasPrefix(c.Item.Name, "/var/run/"))
}

// overlooked is a kind of change that CHECK need not notice.
type overlooked struct {
	// matches finds the changes.
	matches func(c snapshot.Change) bool
	reason  string
}

// overlookable returns all of these, each with its reason.
func overlookable() []overlooked {
	file := func(match func(name string) bool) func(snapshot.Change) bool {
		return func(c snapshot.Change) bool { return c.Item.Kind == snapshot.File && match(c.Item.Name) }
	}
	base := func(name string) string { return name[strings.LastIndex(name, "/")+1:] }
	return []overlooked{
		{func(c snapshot.Change) bool {
			return c.Op != snapshot.Added && c.Item.Kind != snapshot.Sysctl
		}, "the plugin need not guard what existed before"},
		{file(func(name string) bool {
			return strings.HasPrefix(name, "/run/") || strings.HasPrefix(name, "/var/run/")
		}), "a plugin's own record; CHECK concerns the network"},
		{file(func(name string) bool {
			return base(name) == "lock" || strings.HasPrefix(base(name), "last_reserved_ip")
		}), "bookkeeping of host-local, which its next ADD makes again"},
		{
			func(c snapshot.Change) bool {
				return c.Item.Kind == snapshot.Sysctl && c.Item.Scope != "" &&
					!strings.Contains(c.Item.Name, ".all.") && strings.Contains(c.Item.Name, ".conf.")
			},
			"a setting of one interface in the pod, which follows that of all",
		},
		{
			func(c snapshot.Change) bool { return c.Item.Kind == snapshot.Process },
			"a process cannot be taken away without being ended",
		},
		{func(c snapshot.Change) bool { return c.Item.Kind == snapshot.Mount }, "a mount is no network resource"},
		{func(c snapshot.Change) bool {
			return c.Item.Kind == snapshot.Qdisc && !strings.Contains(c.Item.Text, "handle")
		}, "the queue that the kernel gives every link"},
		{func(c snapshot.Change) bool {
			return c.Item.Kind == snapshot.Address && strings.HasPrefix(c.Item.Name, "fe80:")
		}, "a link-local address, which the kernel makes"},
		{func(c snapshot.Change) bool {
			return c.Item.Kind == snapshot.Route && strings.Contains(c.Item.Text, "proto kernel")
		}, "a route that the kernel makes with an address"},
	}
}

// demanded returns the requirement by which CHECK must notice the loss; empty if there is none.
func demanded(c snapshot.Change) string {
	for _, o := range overlookable() {
		if o.matches(c) {
			return ""
		}
	}
	switch c.Item.Kind {
	case snapshot.Link, snapshot.Address, snapshot.Route:
		return "CHK-3"
	}
	return "CHK-4"
}

// provocations removes what ADD made, one item at a time, each on a new node. It does so once.
func (t *trial) provocations(ctx context.Context) ([]*provocation, error) {
	s := t.subject
	s.mu.Lock()
	known := s.changes
	s.mu.Unlock()
	if known != nil {
		disturbance.Of(ctx).Include(known.record)
		return known.list, nil
	}
	made, err, _ := s.once.Do("provocations", func() (any, error) {
		own, record := disturbance.Begin(ctx)
		list, err := t.provoke(own)
		record.End()
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changes = &provocations{list, record}
		return s.changes, nil
	})
	if err != nil {
		return nil, err
	}
	all := made.(*provocations)
	disturbance.Of(ctx).Include(all.record)
	return all.list, nil
}

// mutation is something that is done to an attachment.
type mutation struct {
	what string
	// requirement is the requirement of CHECK for it; empty if there is none.
	requirement string
	// change is to be undone; or, with down, the link that it added is set down. Names may be random, so the change is
	// identified by its scope, its kind, and the number of such changes before it.
	change snapshot.Change
	nth    int
	down   bool
	// spoilt says how it is made wrong instead; empty means that it is removed or set down.
	spoilt string
}

// find returns the change of another attachment that corresponds to the mutation.
func (m mutation) find(changes []snapshot.Change) (snapshot.Change, bool) {
	i := slices.IndexFunc(changes, func(c snapshot.Change) bool {
		return c.Item.Key() == m.change.Item.Key() && c.Item.Text == m.change.Item.Text
	})
	if i >= 0 {
		return changes[i], true
	}
	n := 0
	for _, c := range changes {
		if alike(c, m.change) {
			if n == m.nth {
				return c, true
			}
			n++
		}
	}
	return snapshot.Change{}, false
}

// alike reports whether two changes have the same scope, kind and direction.
func alike(a, b snapshot.Change) bool {
	return a.Op == b.Op && a.Item.Scope == b.Item.Scope && a.Item.Kind == b.Item.Kind
}

func (t *trial) provoke(ctx context.Context) ([]*provocation, error) {
	newest := &trial{subject: t.subject, requirement: t.requirement, version: t.subject.newest()}
	defer newest.close(ctx)
	l, err := newest.lifecycle(ctx)
	if err != nil {
		return nil, err
	}
	var list []mutation
	for i, c := range l.made {
		if c.Op == snapshot.Added && c.Item.Kind == snapshot.Link {
			list = append(list, mutation{
				what: "link " + c.Item.Name + place(c) + " set down", requirement: "CHK-5", change: c, down: true,
			})
		}
		if snapshot.Revertible(c) != nil || isDir(c.Item) {
			continue
		}
		nth := 0
		for _, earlier := range l.made[:i] {
			if alike(earlier, c) {
				nth++
			}
		}
		list = append(list, mutation{what: loss(c), requirement: demanded(c), change: c, nth: nth})
	}
	list = append(list, l.spoilable()...)
	all := make([]*provocation, len(list))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(t.subject.lab.limit(2 * runtime.NumCPU()))
	for i, m := range list {
		group.Go(func() (err error) {
			own := &trial{subject: t.subject, requirement: t.requirement, version: newest.version}
			defer own.close(ctx)
			all[i], err = own.mutate(ctx, m)
			if err != nil {
				return fmt.Errorf("%s: %w", m.what, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return all, nil
}

func place(c snapshot.Change) string {
	if c.Item.Scope == "" {
		return " on the node"
	}
	return " in the pod"
}

// loss describes what is removed.
func loss(c snapshot.Change) string {
	name := c.Item.Name
	if name == "" || c.Item.Kind == snapshot.Nftables && strings.HasPrefix(name, "rule") ||
		c.Item.Kind == snapshot.Rule {
		name = strings.TrimSpace(name + " " + c.Item.Text)
	}
	if c.Op == snapshot.Changed {
		return fmt.Sprintf("%s %s%s put back", c.Item.Kind, name, place(c))
	}
	return fmt.Sprintf("%s %s%s removed", c.Item.Kind, name, place(c))
}

// mutate attaches a pod on a new node, removes one item, and calls CHECK and DEL.
func (t *trial) mutate(ctx context.Context, m mutation) (*provocation, error) {
	p := &provocation{mutation: m}
	b, err := t.bench(ctx, nil)
	if err != nil {
		return nil, err
	}
	pod, err := b.pod(ctx, "first")
	if err != nil {
		return nil, err
	}
	before, err := b.state(ctx, pod)
	if err != nil {
		return nil, err
	}
	started, err := b.wholeState(ctx, pod)
	if err != nil {
		return nil, err
	}
	if _, err := b.add(ctx, pod); err != nil {
		return nil, err
	}
	after, err := b.wholeState(ctx, pod)
	if err != nil {
		return nil, err
	}
	err = b.damage(ctx, pod, m, ownChanges(snapshot.Diff(started, after)))
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		p.skipped = err.Error()
		return p, nil
	}
	if atLeast(t.version, "0.4.0") {
		if p.check, err = b.call(ctx, cni.Check, pod); err != nil {
			return nil, err
		}
	}
	if p.del, err = b.must(ctx, cni.Del, pod); err != nil {
		return nil, err
	}
	l, err := t.lifecycle(ctx)
	if err != nil {
		return nil, err
	}
	p.left, err = b.leftAfter(ctx, before, l.residue, pod)
	return p, err
}

// damage does to an attachment what a mutation says; made are the changes by its ADD.
func (b *bench) damage(ctx context.Context, p *pod, m mutation, made []snapshot.Change) error {
	scopes := map[string]string{p.name: p.netns}
	switch {
	case m.spoilt != "":
		return b.spoil(ctx, p, m)
	case m.down:
		return b.node.Agent.SetLink(ctx, agent.SetLinkArgs{
			Netns: scopes[m.change.Item.Scope], Name: m.change.Item.Name,
		})
	}
	change, found := m.find(made)
	if !found {
		return errors.New("ADD made nothing of the kind this time")
	}
	return b.node.Agent.Revert(ctx, agent.RevertArgs{Change: change, Namespaces: scopes})
}
