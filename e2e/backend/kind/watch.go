package kind

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// watch watches the nodes during the whole run: all must stay ready, each kubelet must keep renewing its lease, and the
// API server must keep answering. They fail on nodes whose address a plugin takes over on the LAN (failure mode K01).
// The lease shows first that a node is cut off: the cluster declares the node not ready 40 to 50 s later
// (node-monitor-grace-period).
type watch struct {
	api  *api
	end  context.CancelFunc
	done chan struct{}
	// renewed contains the last renewal of each node. failing is the time since which the API server answers with
	// errors; it is zero while it does not. Only the watch's own goroutine uses the two.
	renewed map[string]renewal
	failing time.Time

	mu   sync.Mutex
	errs []error
}

const (
	// watchInterval is the interval between two checks.
	watchInterval = time.Second
	// watchPatience limits how long the API server may take to answer: while fifty pods start on two processors it took
	// up to 15 s.
	watchPatience = 40 * time.Second
	// failurePatience limits how long it may answer with errors or be unreachable.
	failurePatience = 5 * time.Second
	// slowAnswer is the time after which the server counts as too busy for leases to mean anything.
	slowAnswer = 3 * time.Second
	// leasePatience limits how long a kubelet may not renew its lease. It renews it every 10 s, a quarter of
	// nodeLeaseDurationSeconds.
	leasePatience = 25 * time.Second
)

// leaseList contains the fields of the API's object that are used here.
type leaseList struct {
	Items []struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec struct {
			RenewTime string `json:"renewTime"`
		} `json:"spec"`
	} `json:"items"`
}

// renewal is a renewTime by the node's clock, and the time at which it was first seen by ours.
type renewal struct {
	time string
	seen time.Time
}

func startWatch(a *api) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{api: a, end: cancel, done: make(chan struct{}), renewed: map[string]renewal{}}
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			w.look(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(watchInterval):
			}
		}
	}()
	return w
}

// sight is the result of one check.
type sight struct {
	nodes  nodeList
	leases leaseList
	err    error
	took   time.Duration
}

func (w *watch) look(ctx context.Context) {
	limited, cancel := context.WithTimeoutCause(ctx, watchPatience,
		fmt.Errorf("the API server did not answer within %s", watchPatience))
	defer cancel()
	start := time.Now()
	var s sight
	s.err = w.api.Get(limited, "/api/v1/nodes", &s.nodes)
	if s.err == nil {
		s.err = w.api.Get(limited, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", &s.leases)
	}
	if ctx.Err() != nil {
		return
	}
	if s.err != nil && limited.Err() != nil {
		s.err = context.Cause(limited)
	}
	now := time.Now()
	s.took = now.Sub(start)
	if err := w.judge(s, now); err != nil {
		w.note(fmt.Errorf("%s: %w", now.Format(time.TimeOnly), err))
	}
}

// judge returns what is wrong with the cluster, or nil.
func (w *watch) judge(s sight, now time.Time) error {
	if s.err != nil {
		if w.failing.IsZero() {
			w.failing = now.Add(-s.took)
		}
		if now.Sub(w.failing) < failurePatience {
			return nil // such as a new leader among its stores
		}
		return s.err
	}
	w.failing = time.Time{}
	if s.took > slowAnswer {
		// Kubelets had to wait for it too.
		clear(w.renewed)
	}
	return errors.Join(s.nodes.unready(), w.late(s.nodes, s.leases, now))
}

// late returns an error that names the nodes that have not renewed their lease, or have none.
func (w *watch) late(nodes nodeList, leases leaseList, now time.Time) error {
	times := map[string]string{}
	for _, l := range leases.Items {
		times[l.Metadata.Name] = l.Spec.RenewTime
	}
	var errs []error
	for _, n := range nodes.Items {
		name := n.Metadata.Name
		last, known := w.renewed[name]
		if !known || last.time != times[name] {
			last = renewal{times[name], now}
			w.renewed[name] = last
		}
		if age := now.Sub(last.seen); age > leasePatience {
			errs = append(errs, fmt.Errorf("node %s has not renewed its lease for %s", name, age.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}

// readyTimeout is the time in which nodes must become ready after a conflist was installed.
const readyTimeout = time.Minute

// nodesReady waits until all nodes are ready. Without a conflist none ever is.
func (a *api) nodesReady(ctx context.Context) error {
	return until(ctx, readyTimeout, "all nodes to be ready", func() (bool, error) {
		var list nodeList
		if err := a.Get(ctx, "/api/v1/nodes", &list); err != nil {
			return false, err
		}
		err := list.unready()
		return err == nil, err
	})
}

// unready returns the reason why a node is not ready, for the first such node.
func (l *nodeList) unready() error {
	for _, n := range l.Items {
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" && c.Status != "True" {
				return fmt.Errorf("node %s is not ready: %s: %s", n.Metadata.Name, c.Reason, c.Message)
			}
		}
	}
	return nil
}

func (w *watch) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, err)
}

// trouble returns the first problem seen since the last call.
func (w *watch) trouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	errs := w.errs
	w.errs = nil
	if len(errs) > 1 {
		return fmt.Errorf("%w (and %d times more)", errs[0], len(errs)-1)
	}
	return errors.Join(errs...)
}

func (w *watch) stop() {
	w.end()
	<-w.done
}
