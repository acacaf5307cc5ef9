package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// racing returns the configuration of the plugin with a fault of calls at the same time.
func racing(fault string) string { return fmt.Sprintf(`{"type": "racing", "fault": %q}`, fault) }

// raceDefects are the faults of the plugin racing: the requirement that finds each, words of the reason, and a token
// if it takes two stops.
func raceDefects() []struct{ fault, id, want, token string } {
	return []struct{ fault, id, want, token string }{
		{"insists-on-making", "RACE-ADD-ADD", "file exists", ""},
		{"locks-too-late", "RACE-ADD-DEL", "link racing0 is missing on the node", ""},
		{"chooses-before-lock", "RACE-ADD-ADD", "two pods have the address 10.99.0.1", ""},
		{"removes-unlocked", "RACE-ADD-DEL", "RTM_DELLINK racing0: link racing0 is missing", ""},
		{"lists-first", "RACE-DEL-DEL", "in the end something is left: + link racing0", ""},
		{"in-place", "RACE-ADD-CHECK", "no record of cnitest-pod-2-eth0", ""},
		{"in-place", "RACE-DEL-CHECK", "no record of cnitest-pod-2-eth0", ""},
		{"tries-lock", "RACE-ADD-STATUS", "resource temporarily unavailable", ""},
		{"tries-lock", "RACE-DEL-STATUS", "resource temporarily unavailable", ""},
		{"crossed-locks", "RACE-ADD-DEL", "each waits for a lock that the other one holds", ""},
		{"comes-and-goes", "RACE-ADD-ADD", "another one has begun", "racing:RACE-ADD-ADD:pods-cold:A2.B5"},
	}
}

// TestRaces checks that each fault is found for its reason, and what the report shows of it.
func TestRaces(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, tt := range sharedOut(t, raceDefects()) {
		t.Run(tt.fault+" "+tt.id, func(t *testing.T) {
			holdLab(t)
			selection := e2e.Selection{Names: tt.id, Seed: 1}
			if tt.token != "" {
				token, err := contract.ParseToken(tt.token)
				if err != nil {
					t.Fatal(err)
				}
				selection = e2e.Selection{Replay: token}
			}
			got := labelled(t, "schedules", selection, failing(tt.id, tt.want), macvlan, racing(tt.fault))[tt.id]
			if got.Result != report.Fail || !strings.Contains(allOf(got), tt.want) {
				t.Fatalf("got %s: %s, want a failure with %q", got.Result, allOf(got), tt.want)
			}
			for _, part := range []string{"--replay racing:", "│ B: ", "stopped before", "CNI_COMMAND="} {
				if !strings.Contains(allOf(got), part) {
					t.Errorf("got\n%s\nwant %q in it", allOf(got), part)
				}
			}
		})
	}
}

// TestRaces_complete checks that a broken plugin fails each requirement.
func TestRaces_complete(t *testing.T) {
	var found []string
	for _, d := range raceDefects() {
		found = append(found, d.id)
	}
	for _, d := range daemonDefects() {
		found = append(found, d.id)
	}
	eachFound(t, found, contract.Schedules)
}

// TestRaces_pass checks that a plugin with a lock passes, and those of this repository.
func TestRaces_pass(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, config := range sharedOut(t, []string{
		racing(""), route, `{"type": "veth-to-host", "hostInterface": "eno1"}`,
	}) {
		t.Run(underTest([]string{config})[0], func(t *testing.T) {
			holdLab(t)
			for id, got := range labelled(t, "schedules", e2e.Selection{Seed: 1}, nil, macvlan, config) {
				if want := outcomeWithoutDaemon(id); got.Result != want {
					t.Errorf("%s: got %s: %s, want %s", id, got.Result, allOf(got), want)
				}
			}
		})
	}
}

// TestRaces_mended checks schedules at which plugins of this repository once failed, or were said to fail. The numbers
// of the stops are those of the mended plugin.
func TestRaces_mended(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, tt := range sharedOut(t, []struct{ config, token string }{
		// STATUS found no store, and removed the one that ADD had made meanwhile.
		{`{"type": "veth-to-host", "hostInterface": "eno1"}`, "veth-to-host:RACE-ADD-STATUS:pods-cold:B10.A65"},
		// Which default route of a pod with two interfaces counts depends on which of them was attached first.
		{`{"type": "veth-to-host", "hostInterface": "eno1"}`, "veth-to-host:RACE-ADD-DEL:interfaces-cold:A"},
	}) {
		t.Run(tt.token, func(t *testing.T) {
			holdLab(t)
			token, err := contract.ParseToken(tt.token)
			if err != nil {
				t.Fatal(err)
			}
			got := labelled(t, "schedules", e2e.Selection{Replay: token}, nil, macvlan, tt.config)[token.Requirement()]
			if got.Result != report.Pass {
				t.Errorf("got %s: %s, want a pass", got.Result, allOf(got))
			}
		})
	}
}
