package snapshot

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReadZones checks that /proc and netlink name the same zones, and that neither names the default one. What does
// not fit into a page is not believed.
func TestReadZones(t *testing.T) {
	if _, err := os.Stat("/proc/thread-self/net/nf_conntrack"); err != nil {
		t.Skip(err)
	}
	isolateNode(t)
	want := []uint16{7, 700}
	for _, zone := range append(want, 0) {
		check(t, trackInZone(zone))
	}
	read, all := readZones()
	listed, err := listZones()
	check(t, err)
	for name, zones := range map[string][]uint16{"/proc": read, "netlink": listed} {
		slices.Sort(zones)
		if diff := cmp.Diff(zones, want); diff != "" {
			t.Errorf("%s: got, want:\n%s", name, diff)
		}
	}
	if !all {
		t.Error("got a part of three connections, want all")
	}
	for zone := range uint16(30) {
		check(t, trackInZone(1000+zone))
	}
	if _, all := readZones(); all {
		t.Error("got all of 33 connections, want no answer")
	}
}
