package kind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
)

const (
	// drainedAnnotation marks a node while a story has taken it out of use.
	drainedAnnotation = "cnitest/drained"
	// uncordonTimeout limits how long it takes to uncordon the node, however the run ended.
	uncordonTimeout = 30 * time.Second
)

// drain drains the first node that is in use and uncordons it again.
func (l *lab) drain(ctx context.Context) error {
	i, err := l.schedulable(ctx)
	if err != nil {
		return err
	}
	node := l.backend.nodes[i]
	err = l.withPods(ctx, "drained", 1, func(pods []*cluster.Place) error {
		if err := l.backend.drained(ctx, node, l.name); err != nil {
			return err
		}
		return l.backend.api.gone(ctx, podTimeout, podsPath+"/"+l.object(pods[i]), "the drained pod to go away")
	})
	if err != nil {
		return err
	}
	return l.withPods(ctx, "after", 1, func(pods []*cluster.Place) error {
		return l.readyWithin(ctx, readyTime, l.object(pods[i]))
	})
}

// schedulable returns the index of the scenario's first node that is not cordoned: the test would uncordon a node that
// somebody else cordoned.
func (l *lab) schedulable(ctx context.Context) (int, error) {
	for i := range l.nodes {
		out, err := l.backend.api.cordoned(ctx, l.backend.nodes[i].name)
		if err != nil || !out {
			return i, err
		}
	}
	return 0, errors.New("no node can be drained: somebody has taken all of them out of use (kubectl get nodes: " +
		"SchedulingDisabled)")
}

// drained drains a node of a lab's pods and uncordons it, even if ctx has ended.
func (b *Backend) drained(ctx context.Context, n *node, lab string) (err error) {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), uncordonTimeout)
		defer cancel()
		err = errors.Join(err, b.api.uncordon(ctx, n.name))
	}()
	// Set the mark first: the run may be killed at any time.
	if err := b.api.Patch(ctx, nodePath(n.name), object{
		"metadata": object{"annotations": object{drainedAnnotation: now()}},
	}); err != nil {
		return err
	}
	_, err = output(ctx, nil, append(slices.Clone(b.api.kubectl), "drain", n.name, "--force", "--ignore-daemonsets",
		"--pod-selector=cnitest/lab="+lab, "--timeout=60s")...)
	return err
}

// uncordonLeft uncordons nodes that a killed run drained.
func (b *Backend) uncordonLeft(ctx context.Context) error {
	for _, n := range b.nodes {
		if !n.drained {
			continue
		}
		b.options.Log("node " + n.name + " was drained by a run that did not end: it is used again")
		if err := b.api.uncordon(ctx, n.name); err != nil {
			return err
		}
	}
	return nil
}

func nodePath(name string) string { return "/api/v1/nodes/" + name }

// cordoned reports whether the scheduler places no pods on a node.
func (a *api) cordoned(ctx context.Context, name string) (bool, error) {
	var found struct {
		Spec struct {
			Unschedulable bool `json:"unschedulable"`
		} `json:"spec"`
	}
	err := a.Get(ctx, nodePath(name), &found)
	return found.Spec.Unschedulable, err
}

// uncordon uncordons a drained node and checks that it is in use again.
func (a *api) uncordon(ctx context.Context, name string) error {
	change := object{
		"metadata": object{"annotations": object{drainedAnnotation: nil}}, "spec": object{"unschedulable": nil},
	}
	err := until(ctx, uncordonTimeout, "node "+name+" to be used again", func() (bool, error) {
		if err := a.Patch(ctx, nodePath(name), change); err != nil {
			return false, err
		}
		out, err := a.cordoned(ctx, name)
		return err == nil && !out, err
	})
	if err != nil {
		return fmt.Errorf("%w; kubectl uncordon %s", err, name)
	}
	return nil
}
