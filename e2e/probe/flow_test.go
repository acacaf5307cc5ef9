package probe

import (
	"bytes"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

func startFlow(t *testing.T, h *host, s FlowSpec) *Flow {
	t.Helper()
	f, err := StartFlow(h.path, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Stop() })
	return f
}

// received waits until n more requests have been answered.
func (f *Flow) received(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.result.Received
	}
	before := count()
	eventually(t, func() error {
		if count() < before+n {
			return errors.New("the flow has stalled")
		}
		return nil
	})
}

func TestFlow(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	for _, protocol := range []Protocol{TCP, UDP} {
		listen(t, b, ListenSpec{Protocol: protocol, Port: 8080})
		for _, to := range []string{"10.9.0.2", "fd09::2"} {
			t.Run(string(protocol)+" to "+to, func(t *testing.T) {
				control, err := NewControl()
				if err != nil {
					t.Fatal(err)
				}
				defer control.Close()
				spec := FlowSpec{Protocol: protocol, To: to, Port: 8080, Interval: time.Millisecond}
				beside, err := control.StartFlow(spec)
				if err != nil {
					t.Fatal(err)
				}
				f := startFlow(t, a, spec)
				f.received(t, 20)
				got := f.Stop()
				nothing := beside.Stop()
				if why := (&FlowResult{Control: &nothing}).Disturbed(spec.Interval); why != "" && got.Error == "" &&
					got.Lost > 0 {
					t.Skipf("the machine was too busy: %s", why)
				}
				if got.Sent < 20 || got.Received != got.Sent || got.Lost != 0 || got.Error != "" ||
					got.LongestGap <= 0 || got.LongestGap > lostAfter {
					t.Errorf("got %+v, want everything answered", got)
				}
				if again := f.Stop(); again != got {
					t.Errorf("got %+v from the second Stop, want %+v", again, got)
				}
			})
		}
	}
}

func TestFlow_linkDown(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	for _, protocol := range []Protocol{TCP, UDP} {
		listen(t, b, ListenSpec{Protocol: protocol, Port: 8080})
		t.Run(string(protocol), func(t *testing.T) {
			f := startFlow(t, a, FlowSpec{
				Protocol: protocol, To: "10.9.0.2", Port: 8080, Interval: 5 * time.Millisecond,
			})
			f.received(t, 5)
			lan.fabric.do(t, func() error { return setDown("port2") })
			down := machinetime.Start()
			eventually(t, func() error {
				if down.Given() < 1200*time.Millisecond {
					return errors.New("the link is down")
				}
				return nil
			})
			gap := down.Given()
			lan.fabric.do(t, func() error { return setUp("port2") })
			f.received(t, 5)
			got := f.Stop()
			if got.Lost < 10 || got.Received+got.Lost != got.Sent || got.LongestGap < gap ||
				got.LongestGap > gap+5*time.Second {
				t.Errorf("got %+v, want losses and a gap of at least %s", got, gap)
			}
		})
	}
}

func TestFlow_serverGone(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	for protocol, want := range map[Protocol]string{
		TCP: "receive, then the far end closed", UDP: "connection refused",
	} {
		t.Run(string(protocol), func(t *testing.T) {
			l := listen(t, b, ListenSpec{Protocol: protocol, Port: 8080})
			f := startFlow(t, a, FlowSpec{
				Protocol: protocol, To: "10.9.0.2", Port: 8080, Interval: 5 * time.Millisecond,
			})
			f.received(t, 5)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error {
				f.mu.Lock()
				defer f.mu.Unlock()
				if f.result.Error == "" {
					return errors.New("no error seen")
				}
				return nil
			})
			if got := f.Stop(); got.Error != want {
				t.Errorf("got %+v, want error %q", got, want)
			}
		})
	}
}

// TestFlow_slowServer checks that answers within a second count, even after Stop was called, and that later ones do
// not.
func TestFlow_slowServer(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	for i, tt := range []struct {
		name     string
		delay    time.Duration
		wantLost bool
	}{
		{"in time", 200 * time.Millisecond, false},
		{"too late", 3 * lostAfter, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port := uint16(8080 + i)
			answers := slowServer(t, b, port, tt.delay)
			f := startFlow(t, a, FlowSpec{Protocol: UDP, To: "10.9.0.2", Port: port})
			eventually(t, func() error {
				if answers.Load() < 5 {
					return errors.New("the server has not answered")
				}
				return nil
			})
			got := f.Stop()
			if lost := got.Lost > 0; lost != tt.wantLost || tt.wantLost && got.Received > 0 {
				t.Errorf("got %+v, want everything lost: %t", got, tt.wantLost)
			}
		})
	}
}

// slowServer answers each request after delay and counts the answers.
func slowServer(t *testing.T, h *host, port uint16, delay time.Duration) *atomic.Int64 {
	t.Helper()
	n, err := openNamespace(h.path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	s, err := n.packetSocket(packetOptions{
		family: unix.AF_INET, from: endpoint{addr: netip.IPv4Unspecified(), port: port},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	var answers atomic.Int64
	go func() {
		for {
			p, err := s.receive(time.Time{})
			if err != nil {
				return
			}
			// A reply has the fields of its request, and others.
			answer := bytes.Clone(p.payload)
			time.AfterFunc(delay, func() {
				if s.send(answer, p.from, p.local) == nil {
					answers.Add(1)
				}
			})
		}
	}()
	return &answers
}

func TestStartFlow_badSpec(t *testing.T) {
	for _, tt := range []struct {
		name    string
		spec    FlowSpec
		wantErr string
	}{
		{"protocol", FlowSpec{Protocol: ICMP, To: "127.0.0.1"}, `flow: want protocol tcp or udp, got "icmp"`},
		{"interval", FlowSpec{Protocol: UDP, Interval: -1}, "flow: want an interval of 0 or more, got -1ns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := StartFlow("", tt.spec)
			if got := errText(err); got != tt.wantErr {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
		})
	}
	t.Run("tcp without a listener", func(t *testing.T) {
		lan := newLAN(t, 2)
		_, err := StartFlow(lan.hosts[0].path, FlowSpec{Protocol: TCP, To: "10.9.0.2", Port: 9})
		if got, want := errText(err), "flow: connect: connection refused"; got != want {
			t.Errorf("got error %q, want %q", got, want)
		}
	})
}
