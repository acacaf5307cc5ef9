package e2e_test

import (
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// readDefects are the faults of the plugin careless when it looks at something: the requirement that finds each, and
// words of the reason.
func readDefects() []struct{ fault, id, want string } {
	const lists = "RTM_GETRULE table 0 (all) interrupted "
	return []struct{ fault, id, want string }{
		{"gives-up", "READ-ADD", lists + "once: want that it tries again, got exit status 1"},
		{"gives-up", "READ-STATUS", lists + "once: want that it tries again, got exit status 1"},
		{"takes-as-whole", "READ-DEL", lists + "once, and leaves + rule inet 1500: from 192.168.1.2/32"},
		{"takes-as-whole", "READ-CHECK", lists + "once: want that it tries again, got exit status 1"},
		{"takes-as-whole", "READ-GC", lists + "once, and leaves + rule inet 1500: from 192.168.1.2/32"},
		{"torn-is-nothing", "READ-DEL", "cnitest-pod-1.json, which is empty, and leaves + file"},
		{"torn-is-nothing", "READ-GC", "cnitest-pod-1.json, which is empty, and leaves + rule"},
		{"unread-is-empty", "READ-GC", "open /run/careless answered with EMFILE, and leaves + file"},
	}
}

// TestReads checks that each fault is found for its reason.
func TestReads(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, tt := range sharedOut(t, readDefects()) {
		t.Run(tt.fault+" "+tt.id, func(t *testing.T) {
			holdLab(t)
			wanted, chain := failing(tt.id, tt.want), []string{macvlan, careless(tt.fault)}
			got := labelled(t, "reads", e2e.Selection{Names: tt.id, Deep: true}, wanted, chain...)[tt.id]
			if got.Result != report.Fail || !strings.Contains(allOf(got), tt.want) {
				t.Fatalf("got %s: %s, want a failure with %q", got.Result, allOf(got), tt.want)
			}
			replays(t, got, func(one e2e.Selection) map[string]report.Result {
				return labelled(t, "reads", one, wanted, chain...)
			})
			for _, part := range []string{"the calls until then:", "CNI_COMMAND="} {
				if !strings.Contains(allOf(got), part) {
					t.Errorf("got\n%s\nwant %q in it", allOf(got), part)
				}
			}
		})
	}
}

// TestReads_complete checks that a broken plugin fails each requirement.
func TestReads_complete(t *testing.T) {
	var found []string
	for _, d := range readDefects() {
		found = append(found, d.id)
	}
	for _, d := range daemonDefects() {
		found = append(found, d.id)
	}
	eachFound(t, found, contract.BadReads)
}

// TestReads_pass checks that a plugin that tries again passes, and those of this repository.
func TestReads_pass(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, tt := range sharedOut(t, []struct {
		name, config string
		deep         bool
	}{
		{"careless", careless(""), true},
		{"route", route, false},
		{"veth-to-host", `{"type": "veth-to-host", "hostInterface": "eno1"}`, false},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			holdLab(t)
			for id, got := range labelled(t, "reads", e2e.Selection{Deep: tt.deep, Seed: 1}, nil, macvlan, tt.config) {
				if want := outcomeWithoutDaemon(id); got.Result != want {
					t.Errorf("%s: got %s: %s, want %s", id, got.Result, allOf(got), want)
				}
			}
		})
	}
}

// TestReads_status checks that STATUS gets its bad answers at the calls that it made without them: it sees the same
// attachments, and reads the record of each.
func TestReads_status(t *testing.T) {
	plugins(t)
	holdLab(t)
	const id = "READ-STATUS"
	chain := []string{macvlan, `{"type": "veth-to-host", "hostInterface": "eno1"}`}
	got := labelled(t, "reads", e2e.Selection{Names: id, Deep: true}, nil, chain...)[id]
	if got.Result != report.Pass {
		t.Errorf("got %s: %s, want pass", got.Result, allOf(got))
	}
}
