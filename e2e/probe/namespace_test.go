package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestNamespaces runs servers, probes, flows and captures in many namespaces at the same time. Each has to stay in its
// own, and no thread of the process may be left in one of them.
func TestNamespaces(t *testing.T) {
	const hosts = 20
	lan := newLAN(t, hosts)
	var captures []*Capture
	var flows []*Flow
	for i, h := range lan.hosts {
		for _, protocol := range []Protocol{TCP, UDP} {
			listen(t, h, ListenSpec{Protocol: protocol, Port: 8080, Name: fmt.Sprint("host ", i+1)})
		}
		captures = append(captures, startCapture(t, h, Match{}))
	}
	for i, h := range lan.hosts {
		flows = append(flows, startFlow(t, h, FlowSpec{
			Protocol: UDP, To: fmt.Sprintf("10.9.0.%d", (i+1)%hosts+1), Port: 8080,
		}))
	}
	var all sync.WaitGroup
	for i, h := range lan.hosts {
		for j := range lan.hosts {
			all.Go(func() {
				protocol := []Protocol{TCP, UDP, ICMP}[(i+j)%3]
				got, err := Run(context.Background(), h.path, Spec{
					Protocol: protocol, To: fmt.Sprintf("10.9.0.%d", j+1), Port: 8080, Within: patience,
				})
				want := fmt.Sprint("host ", j+1)
				if protocol == ICMP {
					want = ""
				}
				if err != nil || !got.OK || got.Server != want || got.Local != fmt.Sprintf("10.9.0.%d", i+1) {
					t.Errorf("%s from %d to %d: got %+v, error %v", protocol, i+1, j+1, got, err)
				}
			})
		}
	}
	all.Wait()
	for i, f := range flows {
		// An answer from another host would be an error. Whether one is late depends on the machine, with 20 flows and
		// 400 probes.
		f.received(t, 1)
		if got := f.Stop(); got.Error != "" {
			t.Errorf("flow of host %d: got %+v, want no error", i+1, got)
		}
		if len(captures[i].Stop()) == 0 {
			t.Errorf("capture of host %d: got nothing", i+1)
		}
	}
	wantOneNamespace(t)
}

// wantOneNamespace checks that every thread is in the namespace of the process.
func wantOneNamespace(t *testing.T) {
	t.Helper()
	want, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatalf("got %d threads, error %v", len(threads), err)
	}
	for _, thread := range threads {
		got, err := os.Readlink(thread)
		// A thread may have ended since the list was made.
		if err == nil && got != want {
			t.Errorf("thread %s: got %s, want %s", thread, got, want)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}
