package e2e_test

import (
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// sequenceDefects are the faults of the plugin careless in a sequence of calls: the requirement that finds each, words
// of the reason, and the seed of the sequences; 0 tries all.
func sequenceDefects() []struct {
	fault, id, want string
	seed            uint64
} {
	return []struct {
		fault, id, want string
		seed            uint64
	}{
		{"trusts-setting", "SEQ-VERBS", "DEL of pod-1 after a setting was changed: + rule inet 1500: from 192.168.1.2/32", 2},
		{"insists-on-rule", "SEQ-VERBS", "ADD of pod-1, reboot", 2},
		{"gc-takes-all", "SEQ-VERBS", "ADD of pod-1, GC: + file /run/careless: drwxr-xr-x 0 0, and 2 more is missing", 3},
		{"record-last", "SEQ-FAULT", " is there, and belongs to no attachment", 0},
	}
}

// TestSequences checks that each fault is found for its reason.
func TestSequences(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, tt := range sharedOut(t, sequenceDefects()) {
		t.Run(tt.fault+" "+tt.id, func(t *testing.T) {
			holdLab(t)
			config := strings.Replace(careless(tt.fault), "}", `, "priority": 1500}`, 1)
			wanted, all := failing(tt.id, tt.want), e2e.Selection{Names: tt.id, Deep: tt.seed == 0, Seed: tt.seed}
			got := labelled(t, "sequences", all, wanted, macvlan, config)[tt.id]
			if got.Result != report.Fail || !strings.Contains(allOf(got), tt.want) {
				t.Fatalf("got %s: %s, want a failure with %q", got.Result, allOf(got), tt.want)
			}
			replays(t, got, func(one e2e.Selection) map[string]report.Result {
				return labelled(t, "sequences", one, wanted, macvlan, config)
			})
		})
	}
}

// TestSequences_complete checks that a broken plugin fails each requirement.
func TestSequences_complete(t *testing.T) {
	var found []string
	for _, d := range sequenceDefects() {
		found = append(found, d.id)
	}
	eachFound(t, found, contract.Sequences)
}

// TestSequences_pass checks that a plugin that looks at what it recorded passes, and those of this repository.
func TestSequences_pass(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, config := range sharedOut(t, []string{
		`{"type": "careless", "fault": "", "priority": 1500}`, route, `{"type": "veth-to-host", "hostInterface": "eno1"}`,
	}) {
		t.Run(underTest([]string{config})[0], func(t *testing.T) {
			holdLab(t)
			for id, got := range labelled(t, "sequences", e2e.Selection{Seed: 1}, nil, macvlan, config) {
				if got.Result != report.Pass {
					t.Errorf("%s: got %s: %s, want a pass", id, got.Result, allOf(got))
				}
			}
		})
	}
}
