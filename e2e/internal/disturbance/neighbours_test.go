package disturbance

import (
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestNeighbourTables compares what the kernel answers with its settings.
func TestNeighbourTables(t *testing.T) {
	tables := neighbourTables()
	for family, name := range map[byte]string{unix.AF_INET: "ipv4", unix.AF_INET6: "ipv6"} {
		text, err := os.ReadFile("/proc/sys/net/" + name + "/neigh/default/gc_thresh3")
		if err != nil {
			t.Logf("%s: %v", name, err) // it is in the first namespace of the machine alone
			continue
		}
		if got, want := fmt.Sprintln(tables[family].limit), string(text); got != want {
			t.Errorf("%s: got the limit %s, want %s", name, got, want)
		}
	}
	if len(tables) == 0 {
		t.Error("got no table, want that of IPv4 at least")
	}
}

func TestOverflowed(t *testing.T) {
	before := map[byte]neighbourTable{
		unix.AF_INET: {refused: 3, limit: 1024}, unix.AF_INET6: {refused: 0, limit: 2048},
	}
	for _, tt := range []struct {
		name  string
		after map[byte]neighbourTable
		want  []string
	}{
		{name: "never again", after: before},
		{name: "not known", after: nil},
		{
			name: "of one family",
			after: map[byte]neighbourTable{
				unix.AF_INET: {refused: 3, limit: 1024}, unix.AF_INET6: {refused: 7, limit: 2048},
			},
			want: []string{"its ND table, which all namespaces share, was full and refused 7 entries (raise " +
				"net.ipv6.neigh.default.gc_thresh3, which is 2048)"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, overflowed(before, tt.after)); diff != "" {
				t.Errorf("sentences (-want +got):\n%s", diff)
			}
		})
	}
}

// A table that is full while a unit runs is a loss that no plugin could have prevented.
func TestRecord_full_table(t *testing.T) {
	_, r := Begin(t.Context())
	for family, table := range r.neighbours {
		table.refused-- // as if the kernel had refused one since
		r.neighbours[family] = table
	}
	for name, found := range map[string]Finding{"so far": r.SoFar(), "at the end": r.Finding()} {
		if !found.Doubtful || !found.Excused || !found.Lost {
			t.Errorf("%s: got %+v, want that something was lost", name, found)
		}
	}
}
