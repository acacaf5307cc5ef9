package snapshot

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReadZones checks that /proc and netlink name the same zones, and that neither names the default one.
func TestReadZones(t *testing.T) {
	isolateNode(t)
	for _, zone := range []uint16{0, 7, 700} {
		check(t, trackInZone(zone))
	}
	for name, list := range map[string]func() ([]uint16, error){"/proc": readZones, "netlink": listZones} {
		zones, err := list()
		check(t, err)
		slices.Sort(zones)
		if diff := cmp.Diff(zones, []uint16{7, 700}); diff != "" {
			t.Errorf("%s: got, want:\n%s", name, diff)
		}
	}
}
