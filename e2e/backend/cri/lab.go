package cri

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/backend/internal/libcnicache"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/calltime"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/target"
)

// lab is a cluster of the netns backend whose nodes have a containerd.
type lab struct {
	netns.Lab
	network  string
	runtimes []*Containerd // by node

	tools  *tools
	old    *tools // nil without
	target *target.Target

	mu      sync.Mutex
	pods    map[string]*Containerd // by their names: the runtime that was asked for them
	figures []report.Figure
}

// runtimeOf returns the containerd of a node.
func (l *lab) runtimeOf(node *cluster.Node) *Containerd {
	return l.runtimes[slices.Index(l.Nodes(), node)]
}

// Attach makes a sandbox for a pod.
func (l *lab) Attach(ctx context.Context, node *cluster.Node, pod string) (*cluster.Attachment, error) {
	runtime := l.runtimeOf(node)
	l.mu.Lock()
	l.pods[pod] = runtime
	l.mu.Unlock()
	id, err := runtime.Run(ctx, Sandbox{Pod: pod})
	if err != nil {
		return nil, err
	}
	found, err := l.Attachments(ctx, node)
	if err != nil {
		return nil, err
	}
	for _, a := range found {
		if a.ContainerID == id {
			return &a, nil
		}
	}
	return nil, fmt.Errorf("sandbox %s runs, and %s on %s has no result of its ADD", id, libcnicache.Dir, node.Name)
}

// Detach stops and removes the sandboxes of a pod.
func (l *lab) Detach(ctx context.Context, pod string) error {
	l.mu.Lock()
	runtime := l.pods[pod]
	l.mu.Unlock()
	if runtime == nil {
		return nil
	}
	if err := runtime.Remove(ctx, pod); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pods, pod)
	return nil
}

// Attachments returns the attachments in libcni's cache on the node.
func (l *lab) Attachments(ctx context.Context, node *cluster.Node) ([]cluster.Attachment, error) {
	all, err := libcnicache.Attachments(ctx, node.Agent, l.network)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", node.Name, err)
	}
	return all, nil
}

// Trouble returns nil: a containerd that ended is lost.
func (l *lab) Trouble() error { return nil }

// Lost returns an error if a containerd no longer answers.
func (l *lab) Lost() error {
	ctx, cancel := context.WithTimeout(context.Background(), lostTimeout)
	defer cancel()
	var errs []error
	for _, runtime := range l.runtimes {
		if _, err := runtime.Conditions(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Evidence returns the log of each containerd, and libcni's cache.
func (l *lab) Evidence(ctx context.Context) map[string]string {
	found := map[string]string{}
	for i, node := range l.Nodes() {
		found["log of containerd on "+node.Name] = l.runtimes[i].log(ctx)
		text, err := libcnicache.Text(ctx, node.Agent, libcnicache.Dir, Namespace)
		if err != nil {
			text += err.Error()
		}
		found["CNI cache of "+node.Name] = text
	}
	return found
}

// Figures returns what stories measured.
func (l *lab) Figures() []report.Figure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.figures)
}

// keep adds a figure of times, and returns its median; a limit of 0 is none.
func (l *lab) keep(what string, limit time.Duration, times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	median := calltime.Quantile(sorted, 0.5)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures = append(l.figures, report.Figure{
		What: what, Times: len(sorted), MedianSeconds: median.Seconds(),
		WorstSeconds: sorted[len(sorted)-1].Seconds(), LimitSeconds: limit.Seconds(),
	})
	return median
}

// Close ends the nodes, and with them everything in their namespaces.
func (l *lab) Close() error {
	for _, runtime := range l.runtimes {
		if runtime != nil {
			runtime.close()
		}
	}
	return l.Lab.Close()
}
