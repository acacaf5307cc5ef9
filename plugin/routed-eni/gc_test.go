package main

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// G08: GC removes the state of attachments that are not valid, on the node and in ipamd, with or without a record; the
// rest stays.
func TestGC(t *testing.T) {
	record := "/run/cni/routed-eni/net/stale/eth0"
	for _, tt := range []struct {
		name   string
		before func(l *lab, stale *pod) error
	}{
		{"a pod that is gone", func(*lab, *pod) error { return nil }},
		{"without record", func(*lab, *pod) error { return os.Remove(record) }},
		{"with an empty record", func(*lab, *pod) error { return os.WriteFile(record, nil, 0o644) }},
		{"without link", func(l *lab, stale *pod) error { return l.removeLink(stale.link()) }},
		{"without record and link", func(l *lab, stale *pod) error { return errors.Join(os.Remove(record), l.removeLink(stale.link())) }},
		{"without address", func(l *lab, stale *pod) error { l.forget(stale); return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.start()
			live, other := l.pod("live"), l.pod("other")
			l.mustAdd(live)
			if err := l.add(other, map[string]any{"name": "other"}); err != nil {
				t.Fatal(err)
			}
			without := l.state()
			first, stale := l.pod("first"), l.pod("stale")
			l.mustAdd(first) // gets the other address of the primary ENI
			l.mustAdd(stale)
			l.mustDel(first)
			if err := tt.before(l, stale); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				wantError(t, l.gc(live), "")
				if diff := cmp.Diff(without, l.state()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if got := l.assigned(); got != 2 {
					t.Errorf("got %d addresses assigned, want 2", got)
				}
			}
			wantError(t, l.check(live, nil), "")
			wantError(t, l.check(other, map[string]any{"name": "other"}), "")
		})
	}
}

// The next GC restores state of a pod that somebody has removed.
func TestGC_restores(t *testing.T) {
	l := newLab(t)
	l.start()
	first, p := l.pod("first"), l.pod("p")
	l.mustAdd(first)
	l.mustAdd(p)
	before := l.state()
	l.in(l.node, func() error {
		// The kernel deletes the route when the link goes down.
		return errors.Join(changeLink(p.link(), netlink.LinkSetDown), removeRule(512, "", "10.0.97.30"),
			removeRule(1536, "10.0.97.30", ""))
	})
	wantError(t, l.gc(first, p), "")
	if diff := cmp.Diff(before, l.state()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantError(t, l.check(p, nil), "")
}
