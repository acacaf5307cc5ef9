package kind

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// watch looks at the nodes all the while: none may lose its readiness, and the API server may not stop answering, as on nodes whose
// place on the LAN a plugin takes (failure mode K01).
type watch struct {
	api  *api
	end  context.CancelFunc
	done chan struct{}

	mu   sync.Mutex
	errs []error
}

const (
	// watchInterval is how often it looks.
	watchInterval = time.Second
	// watchPatience is how long the API server may take to answer: it has to while fifty pods start on a busy machine.
	watchPatience = 15 * time.Second
)

func startWatch(a *api) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{api: a, end: cancel, done: make(chan struct{})}
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

func (w *watch) look(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	var list nodeList
	err := w.api.get(limited, "/api/v1/nodes", &list)
	if ctx.Err() != nil {
		return
	}
	now := time.Now().Format(time.TimeOnly)
	if err != nil {
		w.note(fmt.Errorf("%s: the API server did not answer within %s: %w", now, watchPatience, err))
		return
	}
	if err := list.unready(); err != nil {
		w.note(fmt.Errorf("%s: %w", now, err))
	}
}

// readyTimeout is how long nodes have to become ready after a conflist was installed.
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

// unready is why the first node that is not ready is not.
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

// trouble is what was seen since it was last asked, the first of it.
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
