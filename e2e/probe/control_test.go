package probe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func newControl(t *testing.T) *Control {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces are made")
	}
	c, err := NewControl()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestControl(t *testing.T) {
	c := newControl(t)
	for _, protocol := range []Protocol{TCP, UDP, ICMP} {
		// A control is meant to fail on a machine that is too busy.
		eventually(t, func() error {
			got, err := c.Probe(context.Background(), Spec{Protocol: protocol, To: "203.0.113.1", Port: 9, Count: 3})
			if err != nil || !got.OK || got.Received != 3 {
				return fmt.Errorf("%s: got %+v, error %w, want three answers", protocol, got, err)
			}
			return nil
		})
	}
	for _, protocol := range []Protocol{TCP, UDP} {
		f, err := c.StartFlow(FlowSpec{Protocol: protocol, To: "203.0.113.1", Port: 9, Interval: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		f.received(t, 20)
		got := f.Stop()
		if got.Sent < 20 || got.Error != "" {
			t.Errorf("flow of %s: got %+v, want 20 requests or more and no error", protocol, got)
		}
	}
	wantOneNamespace(t)
}

// The control has no name, and nothing of it is visible in the namespace of the process.
func TestControl_invisible(t *testing.T) {
	newControl(t)
	link, err := netlink.LinkByName("veth0")
	if err == nil && link.Type() == "veth" {
		t.Errorf("got the link %s in the namespace of the process, want none", link.Attrs().Name)
	}
	names, err := filepath.Glob("/run/netns/*control*")
	if err != nil || len(names) > 0 {
		t.Errorf("got the namespaces %v, error %v, want none", names, err)
	}
}

// A control that loses packets reports it, with the same code as a flow.
func TestControl_loses(t *testing.T) {
	c := newControl(t)
	f, err := c.StartFlow(FlowSpec{Protocol: UDP, To: "203.0.113.1", Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	f.received(t, 5)
	handle, err := c.far.netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	link, err := handle.LinkByName("veth0")
	if err == nil {
		err = handle.LinkSetDown(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	sent := func() int { f.mu.Lock(); defer f.mu.Unlock(); return f.result.Sent - f.result.Received }
	for sent() < 5 {
		time.Sleep(flowInterval)
	}
	control := f.Stop()
	result := FlowResult{Control: &control}
	if got := result.Disturbed(0); got == "" {
		t.Errorf("got %+v, want that it lost something", control)
	}
	answer, err := c.Probe(context.Background(), Spec{Protocol: TCP, To: "203.0.113.1", Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	if failed := (&Result{Control: &answer}); failed.Disturbed() == "" {
		t.Errorf("got %+v, want that the control probe failed", answer)
	}
}

func TestDisturbed(t *testing.T) {
	for _, tt := range []struct {
		name     string
		control  *FlowResult
		interval time.Duration
		want     string
	}{
		{"no control", nil, 0, ""},
		{"nothing lost", &FlowResult{Sent: 9, Received: 9, LongestGap: 40 * time.Millisecond}, 0, ""},
		{"slow by intention", &FlowResult{Sent: 9, Received: 9, LongestGap: time.Second}, time.Second, ""},
		{"lost", &FlowResult{Sent: 9, Received: 7, Lost: 2}, 0, "a control flow over a bare veth pair lost 2 of 9 requests"},
		{"broke", &FlowResult{Sent: 9, Received: 9, Error: "send: x"}, 0, "a control flow over a bare veth pair broke: send: x"},
		{"late", &FlowResult{Sent: 9, Received: 9, LongestGap: 600 * time.Millisecond}, 0, "a control flow over a bare veth pair had no reply for 600ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := FlowResult{Control: tt.control}
			if got := r.Disturbed(tt.interval); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
