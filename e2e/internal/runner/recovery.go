package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// lookFor is how long each probe tries while it is not decided yet whether something is wrong.
const lookFor = scenario.Duration(time.Second)

// health is what CHECK and traffic say of pods; nil means that all is well.
type health struct{ check, traffic error }

func (h health) well() bool { return h.check == nil && h.traffic == nil }

// recovery runs a recovery step: pods work, or CHECK says that they do not and somebody restores what is gone.
func (r *Runner) recovery(ctx context.Context, s scenario.Recovery) error {
	running := r.Env.PodsNamed(s.Of)
	node := running[0].Node
	after := r.events.since[node.Name]
	delete(r.events.since, node.Name)
	first, err := r.look(ctx, s.Of, s.OfRunning())
	if err != nil {
		return err
	}
	if first.traffic != nil && first.check == nil && r.canCheck() {
		// It decides, so it gets the time of any other probe, and an explanation.
		if err := r.probeAll(ctx, s.OfRunning()); err != nil {
			return fmt.Errorf("after %s CHECK finds nothing wrong with %s: %w", after, s.Of, err)
		}
		first.traffic = nil // the machine was slow
	}
	by, err := r.restore(ctx, s, node, first)
	if err != nil {
		return fmt.Errorf("after %s: %w", after, err)
	}
	r.Env.Note("%s: %s", after, toldBy(by, first))
	next := r.Env.PodsNamed(s.Next)[0]
	if err := r.Del(ctx, next, scenario.DefaultInterface, Deletion{}); err != nil {
		return err
	}
	if err := r.RemoveNamespace(ctx, next); err != nil {
		return err
	}
	return r.compareWith(ctx, node, after)
}

// toldBy returns what restored what was wrong, in words.
func toldBy(by string, first health) string {
	switch {
	case first.well():
		return "pods went on"
	case first.check == nil:
		return "restored by " + by
	}
	return fmt.Sprintf("restored by %s (CHECK said: %v)", by, first.check)
}

// canCheck reports whether CHECK can say anything.
func (r *Runner) canCheck() bool { return !r.Lacks(cni.Check) && !r.config.Conflist.DisableCheck }

// look asks CHECK and traffic for the pods. Its error is not of a plugin.
func (r *Runner) look(ctx context.Context, place string, probes []scenario.Probe) (h health, err error) {
	if r.canCheck() {
		h.check = r.eachPod(ctx, place, func(ctx context.Context, p *environment.Pod) error {
			return r.Check(ctx, p, scenario.DefaultInterface)
		})
		var refused *cni.Error
		if h.check != nil && !errors.As(h.check, &refused) {
			return h, h.check
		}
	}
	r.unexplained = true
	defer func() { r.unexplained = false }()
	brief := slices.Clone(probes)
	for i := range brief {
		brief[i].Within = lookFor
	}
	h.traffic = r.probeAll(ctx, brief)
	return h, nil
}

// probeAll sends probes one after the other until one fails.
func (r *Runner) probeAll(ctx context.Context, probes []scenario.Probe) error {
	for _, p := range probes {
		if err := r.probe(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// restore waits for the daemon, adds the next pod, and calls GC, as far as that is necessary, and returns what helped.
func (r *Runner) restore(
	ctx context.Context, s scenario.Recovery, node *cluster.Node, h health,
) (by string, err error) {
	if within := r.repairs(); !h.well() && within > 0 {
		by = "the daemon"
		for interval := machinetime.Start(); !h.well() && interval.Given() < within; {
			if err := timing.Sleep(ctx, 100*time.Millisecond); err != nil {
				return by, err
			}
			if h, err = r.look(ctx, s.Of, s.OfRunning()); err != nil {
				return by, err
			}
		}
	}
	next := r.Env.PodsNamed(s.Next)[0]
	if err := r.Add(ctx, next, scenario.DefaultInterface); err != nil {
		return by, fmt.Errorf("the next ADD: %w", err)
	}
	if !h.well() {
		by = "the next ADD"
		if h, err = r.look(ctx, s.Of, s.OfRunning()); err != nil {
			return by, err
		}
	}
	tried := "the next ADD did not restore it"
	if !h.well() && !r.Lacks(cni.GC) && !r.config.Conflist.DisableGC {
		by, tried = "GC", "neither the next ADD nor GC restored it"
		if err := r.gc(ctx, node); err != nil {
			return by, err
		}
		if h, err = r.look(ctx, s.Of, s.OfRunning()); err != nil {
			return by, err
		}
	}
	if h.check != nil {
		return by, fmt.Errorf("%s: %w", tried, h.check)
	}
	if h.traffic != nil {
		if err := r.probeAll(ctx, s.OfRunning()); err != nil {
			return by, fmt.Errorf("%s: %w", tried, err)
		}
	}
	if r.canCheck() {
		if err := r.Check(ctx, next, scenario.DefaultInterface); err != nil {
			return by, fmt.Errorf("of the next pod: %w", err)
		}
	}
	return by, r.probeAll(ctx, s.Probes)
}

// repairs is how long the daemon needs at most to restore what is gone; 0 if it restores nothing.
func (r *Runner) repairs() time.Duration {
	if daemon := r.config.Target.GivenDaemon(); daemon != nil {
		return time.Duration(daemon.Repairs)
	}
	return 0
}

// compareWith compares a node with its state before the events. Of each kind there must be as many items: CHECK has
// said that nothing is gone.
func (r *Runner) compareWith(ctx context.Context, node *cluster.Node, after *aftermath) error {
	take := func(ctx context.Context) (snapshot.State, error) { return r.stateOf(ctx, node) }
	changes, err := r.settleAfter(ctx, take, after.before, ofOthers)
	if err != nil {
		return err
	}
	balance, named := map[string]int{}, map[string]map[string][]snapshot.Change{}
	for _, c := range changes {
		if named[c.Item.Kind] == nil {
			named[c.Item.Kind] = map[string][]snapshot.Change{}
		}
		named[c.Item.Kind][c.Op] = append(named[c.Item.Kind][c.Op], c)
		if c.Op == snapshot.Added {
			balance[c.Item.Kind]++
		} else {
			balance[c.Item.Kind]--
		}
	}
	for _, kind := range snapshot.KindsThat(func(k snapshot.Kind) bool { return balance[k.Name] != 0 }) {
		op, what := snapshot.Added, "was restored twice or is left over"
		if balance[kind] < 0 {
			op, what = snapshot.Removed, "is still gone, and CHECK finds nothing wrong"
			if !r.canCheck() {
				continue
			}
		}
		c := named[kind][op][0]
		return &environment.Failure{
			Err:    fmt.Errorf("after %s: %s %s %s", after, c.Item.Kind, c.Item.Name, what),
			Plugin: r.Env.States[node.Name].Maker(snapshot.Change{Op: snapshot.Added, Item: c.Item}),
		}
	}
	return nil
}

// ofOthers returns the changes by which items come or go, except of items that the kernel makes at its own time.
func ofOthers(changes []snapshot.Change) []snapshot.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c snapshot.Change) bool {
		kernels := c.Item.Kind == snapshot.Route && strings.Contains(" "+c.Item.Text+" ", " proto kernel ")
		linkLocal := c.Item.Kind == snapshot.Address && strings.HasPrefix(c.Item.Name, "fe80:")
		return c.Op == snapshot.Changed || kernels || linkLocal
	})
}
