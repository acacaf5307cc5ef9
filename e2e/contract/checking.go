package contract

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cni"
)

// checking returns the requirements about CHECK.
func checking() []Requirement {
	since := func(r Requirement) Requirement {
		r.Since = "0.4.0"
		return r
	}
	return []Requirement{
		since(Requirement{
			ID: "CHK-1", Level: Must, Section: "2, CHECK", Roles: inChain(),
			Text: "CHECK compares with prevResult.",
			Why:  "Only prevResult says what should exist.",
			How: "CHECK without prevResult, and with another address in it than the pod has, or another name, MAC or " +
				"sandbox of an interface that the plugin made: all are errors.",
			each: true, check: checkPrevResult,
		}),
		since(Requirement{
			ID: "CHK-2", Level: Must, Section: "2, CHECK", Roles: inChain(), Covers: []string{"G05"},
			Text:  "CHECK allows what later plugins of the chain change.",
			Why:   "A plugin that insists on its own routes cannot be followed by a plugin that moves them.",
			How:   "After ADD the pod gets a further route, and prevResult says so; then CHECK passes.",
			check: checkLaterChanges,
		}),
		since(Requirement{
			ID: "CHK-3", Level: Should, Section: "2, CHECK", Roles: inChain(), Covers: []string{"G04"},
			Text: "CHECK fails when an interface, an address or a route that the plugin made is gone or wrong.",
			Why:  "If CHECK never fails, a runtime believes that a broken pod works.",
			How: "Removes each such object that ADD was seen to make, one at a time on a fresh node, and gives the " +
				"pod's interfaces and routes another MAC or gateway than the result lists; a CHECK that notices " +
				"nothing at all is vacuous.",
			check: checkNotices,
		}),
		since(Requirement{
			ID: "CHK-4", Level: Should, Section: "2, CHECK", Roles: inChain(), Covers: []string{"G04"},
			Text: "CHECK fails when a rule, a firewall entry, a neighbour, a setting or a reservation that the " +
				"plugin made is gone.",
			Why: "Losing one of these breaks a pod as surely as losing an interface, and `ip addr` does not show it.",
			How: "Like CHK-3, with all other objects that ADD was seen to make, including those of delegated " +
				"plugins.",
			check: checkNotices,
		}),
		since(Requirement{
			ID: "CHK-5", Level: Should, Section: "2, CHECK", Roles: inChain(), Covers: []string{"G04"},
			Text:  "CHECK fails when the pod cannot be reached.",
			Why:   "A link that is down keeps all its addresses.",
			How:   "Like CHK-3, but each link that ADD was seen to make is set down.",
			check: checkNotices,
		}),
		since(Requirement{
			ID: "CHK-6", Level: Must, Section: "2, CHECK", Roles: everyPlugin(),
			Text:  "CHECK passes right after ADD.",
			Why:   "Runtimes may call it at any time, and a false alarm restarts a healthy pod.",
			How:   "Attaches 20 pods, eight at a time, and checks each immediately and a second time.",
			check: checkRightAfter,
		}),
		since(Requirement{
			ID: "CHK-7", Level: Should, Section: "2, CHECK; 4", Roles: []Role{Main},
			Text:  "CHECK calls CHECK of the plugins that it delegates to, and passes their errors on.",
			Why:   "Only the IPAM plugin knows whether the address still belongs to the pod.",
			How:   "A stub in place of the IPAM plugin records the call, and fails at the next one.",
			check: checkDelegateCheck,
		}),
	}
}

func checkPrevResult(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	if err := l.checks(); err != nil {
		return err
	}
	if l.checkWithoutPrevResult != nil && l.checkWithoutPrevResult.ExitCode == 0 {
		t.wrong([]cni.Call{*l.checkWithoutPrevResult}, "CHECK without prevResult passes, want an error")
	}
	for _, misled := range l.misled {
		if misled.call.ExitCode == 0 {
			t.wrong([]cni.Call{misled.call},
				"CHECK with %s in prevResult that the pod does not have passes, want an error", misled.what)
		}
	}
	return nil
}

func checkLaterChanges(ctx context.Context, t *trial) error {
	b, p, err := t.attached(ctx)
	if err != nil {
		return err
	}
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return nil // ADD-2 reports it
	}
	later, err := b.laterPlugin(ctx, p, result)
	if err != nil {
		return err
	}
	text, err := encode(later, t.version)
	if err != nil {
		return err
	}
	call, err := b.must(ctx, cni.Check, p, func(inv *invocation) { inv.config["prevResult"] = text })
	if err == nil && call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "CHECK fails after a later plugin added a route, which prevResult has: %s",
			summary(call))
	}
	return err
}

// checks returns an error if CHECK right after ADD failed: then it shows nothing that it fails later, too.
func (l *lifecycle) checks() error {
	if l.check == nil || l.check.ExitCode == 0 {
		return nil
	}
	return fmt.Errorf("a CHECK that passes is needed, and it fails right after ADD, see CHK-6: %s", summary(*l.check))
}

func checkNotices(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	if err := l.checks(); err != nil {
		return err
	}
	list, err := t.provocations(ctx)
	if err != nil {
		return err
	}
	asked, noticed := 0, 0
	var missed []*provocation
	for _, p := range list {
		switch {
		case p.skipped != "" || p.requirement == "":
			continue
		case p.check.ExitCode != 0:
			noticed++
		}
		if p.requirement != t.requirement.ID {
			continue
		}
		asked++
		t.subject.score(cni.Check, Provocation{
			requirement: t.requirement.ID, What: p.what, Noticed: p.check.ExitCode != 0,
		})
		if p.check.ExitCode == 0 {
			missed = append(missed, p)
		}
	}
	switch {
	case asked == 0:
		return notApplicable("ADD made nothing of the kind")
	case noticed == 0:
		return vacuousError(fmt.Sprintf("CHECK passes whatever is taken away, first with %s", missed[0].what))
	}
	for _, p := range missed {
		t.wrong([]cni.Call{p.check}, "CHECK passes with %s", p.what)
	}
	return nil
}

func checkRightAfter(ctx context.Context, t *trial) error {
	b, err := t.bench(ctx, manyPods)
	if err != nil {
		return err
	}
	pods := 20
	if b.node.PoolSize > 0 {
		pods = min(pods, b.node.PoolSize)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range pods {
		group.Go(func() error {
			p, err := b.attach(ctx, fmt.Sprintf("pod-%d", i))
			if err != nil {
				return err
			}
			for range 2 {
				call, err := b.must(ctx, cni.Check, p)
				if err != nil {
					return err
				}
				if call.ExitCode != 0 {
					t.wrong([]cni.Call{call}, "CHECK right after ADD: %s", summary(call))
					return nil
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func checkDelegateCheck(ctx context.Context, t *trial) error { return t.delegates(ctx, cni.Check) }
