package kind

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// watch looks at the nodes all the while: none may lose its readiness, each kubelet must go on renewing its lease, and
// the API server may not stop answering, as on nodes whose place on the LAN a plugin takes (failure mode K01). Of a
// node that is cut off the lease tells first: it is declared not ready 40 to 50 s later (node-monitor-grace-period).
type watch struct {
	api  *api
	end  context.CancelFunc
	done chan struct{}
	// renewed is by node; failing is when the API server began to answer with errors, zero while it does not. Both are
	// of the watch's own goroutine.
	renewed map[string]renewal
	failing time.Time

	mu   sync.Mutex
	errs []error
}

const (
	// watchInterval is how often it looks.
	watchInterval = time.Second
	// watchPatience is how long the API server may take to answer: while fifty pods start on two processors it was seen
	// to take 15 s.
	watchPatience = 40 * time.Second
	// failurePatience is how long it may answer with errors, or be out of reach.
	failurePatience = 5 * time.Second
	// slowAnswer is the time after which it is taken to be too busy for anything to be told from leases.
	slowAnswer = 3 * time.Second
	// leasePatience is how long a kubelet may not renew its lease: it does each 10 s, a quarter of
	// nodeLeaseDurationSeconds.
	leasePatience = 25 * time.Second
)

// leaseList has the needed fields of the API's object.
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

// renewal is a renewTime, by the node's clock, and when it was first seen, by ours.
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

// sight is the result of one look.
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
	s.err = w.api.get(limited, "/api/v1/nodes", &s.nodes)
	if s.err == nil {
		s.err = w.api.get(limited, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", &s.leases)
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

// judge says what is wrong with the cluster.
func (w *watch) judge(s sight, now time.Time) error {
	if s.err != nil {
		if w.failing.IsZero() {
			w.failing = now.Add(-s.took)
		}
		if now.Sub(w.failing) < failurePatience {
			return nil // such as a change of the leader among its stores
		}
		return s.err
	}
	w.failing = time.Time{}
	if s.took > slowAnswer {
		// Kubelets wait for it, too.
		clear(w.renewed)
	}
	return errors.Join(s.nodes.unready(), w.late(s.nodes, s.leases, now))
}

// late says which nodes have not renewed their lease. A node without one is late as well.
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

// readyTimeout is the time for nodes to become ready after a conflist was installed.
const readyTimeout = time.Minute

// nodesReady waits until all nodes are ready: without a conflist none ever is.
func (a *api) nodesReady(ctx context.Context) error {
	return until(ctx, readyTimeout, "all nodes to be ready", func() (bool, error) {
		var list nodeList
		if err := a.get(ctx, "/api/v1/nodes", &list); err != nil {
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

// trouble returns the first problem that was seen since the last call.
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
