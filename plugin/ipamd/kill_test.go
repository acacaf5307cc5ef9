package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

const (
	drillWorkers  = 16
	drillInFlight = 8
	drillKeys     = 3 // per worker; together more than there are addresses
)

// TestKill kills the daemon again and again, at random times while at least 8 calls are running, and sometimes while it
// starts. Afterwards every caller that was promised an address has it, and nobody else does.
func TestKill(t *testing.T) {
	l := newLab(t)
	l.service.Set(inventory("10.0.0.16/28", "10.0.1.16/28")) // 32 addresses for 48 keys
	d := drill(l, childDaemon, *kills, syscall.SIGKILL)
	if len(d.violations) > 0 {
		t.Errorf("after %d kills: %v", d.killed, d.violations)
	}
	if d.killed < *kills || d.promises.Load() < int64(d.killed) {
		t.Errorf("got %d kills and %d promises, want %d kills and more promises", d.killed, d.promises.Load(), *kills)
	}
	if *kills >= 500 && (d.halfWritten == 0 || d.untold == 0) {
		t.Errorf("got %d kills before the rename and %d answers cut off after it, want some of each", d.halfWritten,
			d.untold)
	}
	t.Logf("%d kills, %d of them at start, %d between create and rename, at least %d calls in flight; %d promises, "+
		"%d calls cut off, "+
		"%d of them between rename and reply", d.killed, d.atStart, d.halfWritten, d.fewest, d.promises.Load(),
		d.cut.Load(), d.untold)
}

// This shows that the drill can fail: it finds a daemon that replies before it writes.
func TestKill_forgetful(t *testing.T) {
	d := drill(newLab(t), childForgetful, 200, syscall.SIGKILL)
	if len(d.violations) == 0 {
		t.Errorf("got no violation after %d kills and %d promises, want one", d.killed, d.promises.Load())
	}
	t.Logf("after %d kills: %q", d.killed, d.violations)
}

// A daemon that is told to end answers the running calls.
func TestKill_term(t *testing.T) {
	d := drill(newLab(t), childDaemon, 30, syscall.SIGTERM)
	if len(d.violations) > 0 {
		t.Errorf("after %d ends: %v", d.killed, d.violations)
	}
	t.Logf("%d promises, %d calls not answered", d.promises.Load(), d.cut.Load())
}

// oracle records what callers were promised. It is outside of the daemon.
type oracle struct {
	mu         sync.Mutex
	held       map[string]string // address by key
	owner      map[string]string // key by address
	uncertain  map[string]bool   // keys of calls whose answer never came
	unanswered map[string]bool   // those of them that requested an address last, and certainly had none before
	violations []string
}

type drilled struct {
	oracle
	killed, atStart int
	halfWritten     int // killed while there was a temporary file
	untold          int // addresses that were on disk when their answer was cut off
	fewest          int64
	inFlight        atomic.Int64
	promises, cut   atomic.Int64
	client          atomic.Pointer[generation]
}

// generation is the client of one process.
type generation struct {
	rpc.CNIBackendClient
	ended chan struct{} // closed when there is a next one, or none
}

// drill ends daemons by a signal until it has done so as often as told, or has seen a broken promise.
func drill(l *lab, kind string, kills int, signal syscall.Signal) *drilled {
	l.t.Helper()
	d := &drilled{oracle: oracle{
		held: map[string]string{}, owner: map[string]string{}, uncertain: map[string]bool{},
		unanswered: map[string]bool{},
	}, fewest: drillWorkers}
	ctx, stop := context.WithCancel(l.t.Context())
	var workers sync.WaitGroup
	first := &generation{ended: make(chan struct{})}
	d.client.Store(first)
	waiting := make(chan struct{}, drillWorkers)
	for worker := range drillWorkers {
		workers.Go(func() { d.work(ctx, worker, waiting) })
	}
	for d.killed < kills && len(d.violations) == 0 {
		for range drillWorkers { // all of them wait for the next process
			<-waiting
		}
		if rand.IntN(10) == 0 {
			d.killAtStart(l, kind)
		}
		p := l.start(kind, l.args("--cooling", "0s", "--log-level", "error")...)
		conn := l.connect(p)
		d.audit(l)
		next := &generation{rpc.NewCNIBackendClient(conn), make(chan struct{})}
		close(d.client.Swap(next).ended)
		moment := time.Now().Add(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		for time.Now().Before(moment) || d.inFlight.Load() < drillInFlight {
			time.Sleep(50 * time.Microsecond)
		}
		d.fewest = min(d.fewest, d.inFlight.Load())
		if err := p.Process.Signal(signal); err != nil {
			l.t.Fatal(err)
		}
		if err := p.Wait(); err != nil && signal != syscall.SIGKILL {
			l.t.Errorf("after %s: %v\n%s", signal, err, p.output)
		}
		d.killed++
		d.halfWritten += l.temporaries()
		conn.Close()
	}
	stop()
	workers.Wait()
	return d
}

// temporaries counts the files that a killed process had not renamed yet.
func (l *lab) temporaries() int {
	l.t.Helper()
	files, err := filepath.Glob(filepath.Join(l.dir, ".state.json*"))
	if err != nil {
		l.t.Fatal(err)
	}
	return len(files)
}

// killAtStart kills a process before it gets a request: while it reads, cleans up and restores.
func (d *drilled) killAtStart(l *lab, kind string) {
	p := l.start(kind, l.args("--cooling", "0s", "--log-level", "error")...)
	time.Sleep(time.Duration(rand.IntN(60_000)) * time.Microsecond)
	_ = p.Process.Kill()
	_ = p.Wait()
	d.killed++
	d.atStart++
}

// work adds and deletes its keys one after the other. After a call that was cut off it waits for the next process.
func (d *drilled) work(ctx context.Context, worker int, waiting chan<- struct{}) {
	g := d.client.Load()
	waiting <- struct{}{}
	for {
		select {
		case <-g.ended:
		case <-ctx.Done():
			return
		}
		for g = d.client.Load(); ; {
			key := fmt.Sprintf("%d-%d", worker, rand.IntN(drillKeys))
			if !d.call(ctx, g, key) {
				break
			}
		}
		select {
		case waiting <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

// call requests or releases the address of a key, and compares the answer with what was promised. It returns false if
// there was no answer.
func (d *drilled) call(ctx context.Context, g *generation, key string) bool {
	d.mu.Lock()
	address, held := d.held[key]
	fresh := !held && !d.uncertain[key]
	release := (held || d.uncertain[key]) && rand.IntN(3) > 0
	if release {
		// From now on the daemon may assign it to others.
		delete(d.held, key)
		delete(d.owner, address)
		d.uncertain[key] = true
	} else if !held {
		d.uncertain[key] = true
	}
	d.mu.Unlock()

	d.inFlight.Add(1)
	var got string
	var answered bool
	if release {
		reply, err := g.DelNetwork(ctx, del(key))
		if answered = err == nil; answered && len(reply.IPAllocationMetadata) > 0 {
			got = reply.IPAllocationMetadata[0].IPv4Addr
		}
	} else {
		reply, err := g.AddNetwork(ctx, add(key))
		switch {
		case err == nil:
			got, answered = reply.IPAllocationMetadata[0].IPv4Addr, true
		case isExhausted(err):
			answered = true
		}
	}
	d.inFlight.Add(-1)
	if !answered {
		d.cut.Add(1)
		d.noteUnanswered(key, fresh && !release)
		return false
	}
	d.promises.Add(1)
	d.promised(key, release, address, got)
	return true
}

func (d *drilled) noteUnanswered(key string, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unanswered[key] = fresh
}

// promised records an answer. address is the one that the key had before, as far as known, and got is the one in the
// answer.
func (d *drilled) promised(key string, release bool, address, got string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.uncertain, key)
	switch {
	case address != "" && got != address:
		d.violate("%s was promised %s, and is told %q", key, address, got)
	case release || got == "":
	case d.owner[got] != "" && d.owner[got] != key:
		d.violate("%s was given to %s while %s has it", got, key, d.owner[got])
	default:
		d.held[key], d.owner[got] = got, key
	}
}

// violate records the first few violations: one is enough, and others follow from it.
func (d *drilled) violate(format string, args ...any) {
	if len(d.violations) == 3 {
		return
	}
	d.violations = append(d.violations, fmt.Sprintf(format, args...))
}

// audit compares what a new process knows with what was promised, before it gets any other request.
func (d *drilled) audit(l *lab) {
	l.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	known := map[string]string{}
	seen := map[string]string{}
	for _, a := range l.assignments() {
		address := a.Address.String()
		if other := seen[address]; other != "" {
			d.violate("%s belongs to %s and %s", address, other, a.ContainerID)
		}
		known[a.ContainerID], seen[address] = address, a.ContainerID
		if d.held[a.ContainerID] == "" && !d.uncertain[a.ContainerID] {
			d.violate("%s belongs to %s, whose release was promised", address, a.ContainerID)
		}
	}
	for key, fresh := range d.unanswered {
		if fresh && known[key] != "" {
			d.untold++
		}
	}
	clear(d.unanswered)
	for key, address := range d.held {
		if known[key] != address {
			d.violate("%s was promised %s, and has %q after a restart", key, address, known[key])
		}
	}
}

func isExhausted(err error) bool { return status.Code(err) == codes.ResourceExhausted }
