package contract

import (
	"context"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// succeeding returns the requirements about pods that come after others: of the same name, at the same address, or
// deleted when other things of theirs have gone.
func succeeding() []Requirement {
	return []Requirement{
		asFailureMode(Requirement{
			ID: "E13", Roles: everyPlugin(), Covers: []string{"D04", "E11"},
			Text: "DEL of an old container leaves alone the new one of the pod with the same name.",
			Why: "A pod of a StatefulSet, and one whose sandbox is made again, has the name of its predecessor, and " +
				"runtimes delete the old sandbox late, or once more when they forget it.",
			How: "Two containers in turn with the same K8S_POD_NAME, K8S_POD_NAMESPACE and CNI_IFNAME. The old one " +
				"is deleted and then, as containerd does, deleted again without prevResult and CNI_NETNS, when the " +
				"new one has its address; or its namespace is gone; or it still runs. ADD of the new one succeeds, " +
				"and DEL of the old one leaves all that ADD of the new one made, and its CHECK passes.",
			check: checkNamesake, long: true,
		}),
		asFailureMode(Requirement{
			ID: "E14", Roles: everyPlugin(), Covers: []string{"D12"},
			Text: "DEL succeeds and deletes whatever prevResult says.",
			Why: "The result in a cache may be that of another version of the plugin, with more interfaces, fewer, " +
				"or keys that this one does not know. DEL that refuses it fails for ever.",
			How: "DEL with a prevResult that has another interface first (MAC 0, no sandbox), one without any MAC, " +
				"keys that nobody knows, no interfaces, no addresses, an address of an interface that is not " +
				"listed, or nothing but its version; node and pod look as after a common DEL. The cniVersion stays: " +
				"runtimes convert a result to that of the configuration.",
			check: checkStrangeResult, long: true,
		}),
		asFailureMode(Requirement{
			ID: "E15", Roles: inChain(),
			Text: "DEL succeeds and deletes when the other interfaces of the pod have gone.",
			Why: "Somebody deleted them first: another network, a user, a DEL that failed half way. DEL that needs " +
				"them fails for ever, and so does the pod.",
			How: "The pod also has two links of others. All of its links but those that ADD made are removed, then " +
				"DEL is called twice. Main plugins attach the pod twice, as eth0 and as net1: the link eth0 goes, " +
				"and DEL of net1 and then of eth0 succeed. Nothing is left.",
			check: checkOtherInterfacesGone, long: true,
		}),
		asFailureMode(Requirement{
			ID: "E18", Roles: everyPlugin(),
			Text: "No user but root can change the files by which a plugin knows what to delete.",
			Why: "DEL and GC run as root and do what the files say; and with a link of the right name in /tmp the " +
				"plugin writes to any file.",
			How: "Looks at the modes of all files, directories and sockets that ADD makes: others may not write, and " +
				"none is in /tmp, /var/tmp or /dev/shm.",
			check: checkModes,
		}),
		asFailureMode(Requirement{
			ID: "E17", Roles: inChain(), Covers: []string{"E08"},
			Text: "ADD gets along with what a predecessor of the same name or address left on the node.",
			Why: "A rule that stayed decides about the packets of the next pod, a route sends them to a device that " +
				"nobody uses, and \"file exists\" keeps each next pod from starting.",
			How: "Two pods with the same name and, as far as there is a pool, the same address show what the next " +
				"one will have. Each link, rule, IPv4 route and permanent neighbour among it is planted before the " +
				"next ADD, a rule with another table, a route to another device, a neighbour with another MAC: ADD, " +
				"or ADD after one that failed and DEL, succeeds, and what was planted is gone.",
			check: checkLeftovers,
		}),
	}
}

// podName is the name in Kubernetes of the pods that have the same one.
const podName = "web-0"

// called returns the same node, whose pods have a name in Kubernetes; empty means names of their own.
func (b *bench) called(name string) *bench {
	other := *b
	other.podName = name
	return &other
}

// succession is what happened to a container before the pod of the same name gets a new one.
type succession struct {
	what string
	// shared means that both exist at the same time, and so need an address each.
	shared bool
	end    func(ctx context.Context, b *bench, old *pod) error
	// late is how the last DEL of the old one differs from the usual one.
	late func(*invocation)
}

func successions() []succession {
	return []succession{
		{
			what: "that was deleted before",
			end: func(ctx context.Context, b *bench, old *pod) error {
				if _, err := b.must(ctx, cni.Del, old); err != nil {
					return err
				}
				return b.end(ctx, old)
			},
			late: func(inv *invocation) {
				withoutPrevResult(inv)
				inv.env["CNI_NETNS"] = ""
			},
		},
		{
			what: "whose namespace is gone", shared: true,
			end: func(ctx context.Context, b *bench, old *pod) error {
				return b.node.Agent.RemoveNamespace(ctx, old.name)
			},
			late: func(*invocation) {},
		},
		{
			what: "that still runs", shared: true,
			end:  func(context.Context, *bench, *pod) error { return nil },
			late: func(*invocation) {},
		},
	}
}

func checkNamesake(ctx context.Context, t *trial) error {
	device, _ := t.subject.file.DeviceKey()
	alone := t.subject.file.OneAddress() || device != ""
	for _, s := range successions() {
		if s.shared && alone {
			t.note("two containers cannot exist at the same time, since both would get the same")
			continue
		}
		if err := t.succeed(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// succeed attaches a container, ends it, attaches the next one of the same pod, and deletes the first one late.
func (t *trial) succeed(ctx context.Context, s succession) error {
	var edit func(*cluster.Request)
	if !s.shared && t.hasPool() == nil {
		edit = onlyOne
	}
	b, err := t.bench(ctx, edit)
	if err != nil {
		return err
	}
	named := b.called(podName)
	old, err := named.attach(ctx, "old")
	if err != nil {
		return err
	}
	if err := s.end(ctx, named, old); err != nil {
		return err
	}
	fresh, err := named.pod(ctx, "new")
	if err != nil {
		return err
	}
	before, err := b.state(ctx, fresh)
	if err != nil {
		return err
	}
	add, err := named.must(ctx, cni.Add, fresh)
	if err != nil {
		return err
	}
	if add.ExitCode != 0 {
		return b.refusesNamesake(ctx, add, s)
	}
	g := &successor{bench: named, pod: fresh, before: before}
	return g.survives(ctx, old, s)
}

// refusesNamesake reports an ADD that fails because of the name: with another name it succeeds.
func (b *bench) refusesNamesake(ctx context.Context, add cni.Call, s succession) error {
	p, err := b.pod(ctx, "control")
	if err != nil {
		return err
	}
	control, err := b.call(ctx, cni.Add, p)
	if err != nil {
		return err
	}
	answer, _ := failure(add)
	switch {
	case control.ExitCode != 0:
		b.note("no second container %s gets attached, whatever its name", s.what)
	case answer.Code == 11 && s.shared:
		b.note("ADD says that it has to wait until a container of the same pod %s is deleted", s.what)
	default:
		b.wrong([]cni.Call{add}, "ADD of a pod with the same name as one %s: want success as with another name, got %s",
			s.what, summary(add))
	}
	return nil
}

// successor is a container that has the name of an old one.
type successor struct {
	*bench
	pod    *pod
	before snapshot.State
}

// made returns what ADD made, on the node and in the pod, once the kernel has settled, without what the kernel itself
// makes some time after a link is up.
func (g *successor) made(ctx context.Context) (own []snapshot.Item, err error) {
	if _, err := g.leftAfter(ctx, g.before, nil, g.pod); err != nil {
		return nil, err
	}
	now, err := g.state(ctx, g.pod)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(without(now.Items, g.before.Items), func(i snapshot.Item) bool {
		return ofKernel(i) || i.Kind == snapshot.Route && strings.Contains(i.Text, "proto kernel")
	}), nil
}

// lost returns the first item that is not there any more, once the kernel has settled.
func (g *successor) lost(ctx context.Context, whole []snapshot.Item) (snapshot.Item, bool, error) {
	if _, err := g.leftAfter(ctx, g.before, nil, g.pod); err != nil {
		return snapshot.Item{}, false, err
	}
	now, err := g.state(ctx, g.pod)
	if err != nil {
		return snapshot.Item{}, false, err
	}
	for _, i := range without(whole, now.Items) {
		// A file with other contents is there: a daemon's log, or a record of several pods.
		if i.Kind != snapshot.File || !slices.ContainsFunc(now.Items, func(o snapshot.Item) bool {
			return o.Kind == i.Kind && o.Scope == i.Scope && o.Name == i.Name
		}) {
			return i, true, nil
		}
	}
	return snapshot.Item{}, false, nil
}

// without returns the items of which there is no equal one among others. Keys say too little: rules and elements of
// sets have those of others.
func without(items, others []snapshot.Item) []snapshot.Item {
	return slices.DeleteFunc(slices.Clone(items), func(i snapshot.Item) bool {
		return slices.ContainsFunc(others, func(o snapshot.Item) bool { return snapshot.Same(i, o) })
	})
}

// passes reports whether CHECK passes, as far as the version has it.
func (g *successor) passes(ctx context.Context) (cni.Call, bool, error) {
	if !cni.Check.In(g.version) {
		return cni.Call{}, true, nil
	}
	call, err := g.call(ctx, cni.Check, g.pod)
	return call, call.ExitCode == 0, err
}

// survives checks that the late DEL of the old container takes nothing away.
func (g *successor) survives(ctx context.Context, old *pod, s succession) error {
	whole, err := g.made(ctx)
	if err != nil {
		return err
	}
	_, sound, err := g.passes(ctx)
	if err != nil {
		return err
	}
	del, err := g.must(ctx, cni.Del, old, s.late)
	if err != nil {
		return err
	}
	lost, found, err := g.lost(ctx, whole)
	if err != nil {
		return err
	}
	what := "DEL of a container " + s.what
	if found {
		g.wrong([]cni.Call{del}, "%s deletes what the new one of the same pod has: %s", what,
			snapshot.Change{Op: snapshot.Removed, Item: lost})
		return nil
	}
	check, passes, err := g.passes(ctx)
	if err == nil && sound && !passes {
		g.wrong([]cni.Call{del, check}, "after %s, CHECK of the new one of the same pod: want success, got %s", what,
			summary(check))
	}
	return err
}
