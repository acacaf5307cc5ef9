package e2e_test

import (
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/target"
)

// served asks the plugin served with a daemon that has a fault.
func served(
	t *testing.T, fault, id string, selection e2e.Selection, wanted failure,
) map[string]report.Result {
	t.Helper()
	return ofLabel(t, id, wanted, e2e.Options{
		Conflist: writeConflist(t, "", macvlan, `{"type": "served"}`), Plugins: []string{"served"}, Select: selection,
		Target: &target.Target{Daemon: &target.Daemon{
			Name: "served", Command: []string{"served", "daemon", fault}, Ready: target.Ready{Socket: "/run/served.sock"},
			Owns: []string{"/run/served.sock", "/var/lib/served"},
		}},
	})
}

// daemonDefects are the faults of the daemon served: the requirement that finds each, and words of the reason.
func daemonDefects() []struct{ fault, id, want string } {
	return []struct{ fault, id, want string }{
		{"torn-is-empty", "READ-DAEMON", "two pods have the address 10.98.0.1"},
		{"gives-up", "READ-DAEMON", "interrupted once: want that it tries again, got: results may be incomplete"},
		{"saves-late", "RACE-RESTART", "and the daemon is killed and starts again: CHECK of pod-1: want success, got"},
		{"unlocked", "RACE-DAEMON", "and asked for ADD of pod-2: two pods have the address 10.98.0.2"},
	}
}

// TestAttended checks that each fault of a daemon is found for its reason, and that its token repeats it.
func TestAttended(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, tt := range sharedOut(t, daemonDefects()) {
		t.Run(tt.fault+" "+tt.id, func(t *testing.T) {
			holdLab(t)
			wanted := failing(tt.id, tt.want)
			got := served(t, tt.fault, tt.id, e2e.Selection{Deep: true}, wanted)[tt.id]
			for _, part := range []string{tt.want, "the daemon's calls:\n", "--replay served:"} {
				if got.Result != report.Fail || !strings.Contains(allOf(got), part) {
					t.Fatalf("got %s: %s, want a failure with %q", got.Result, allOf(got), part)
				}
			}
			replays(t, got, func(one e2e.Selection) map[string]report.Result {
				return served(t, tt.fault, tt.id, one, wanted)
			})
		})
	}
}

// TestAttended_pass checks that a daemon without a fault passes everything.
func TestAttended_pass(t *testing.T) {
	holdLab(t)
	plugins(t)
	for _, id := range []string{"READ-DAEMON", "RACE-DAEMON", "RACE-RESTART", "E19", "E20"} {
		if got := served(t, "", id, e2e.Selection{Deep: true}, nil)[id]; got.Result != report.Pass {
			t.Errorf("%s: got %s: %s, want a pass", id, got.Result, allOf(got))
		}
	}
}

// TestAttended_links checks that a daemon is found that follows a link in the place of its file.
func TestAttended_links(t *testing.T) {
	holdLab(t)
	plugins(t)
	const want = "(/run/cnitest-others/kept) in the place of /var/lib/served/table.json.new, and its daemon started " +
		"again, the plugin writes "
	got := served(t, "follows-links", "E20", e2e.Selection{}, failing("E20", want))["E20"]
	if got.Result != report.Fail || !strings.Contains(got.Reason, want) {
		t.Errorf("got %s: %s, want a failure with %q", got.Result, got.Reason, want)
	}
}

// outcomeWithoutDaemon is the result of a requirement that a plugin without a daemon meets.
func outcomeWithoutDaemon(id string) report.Outcome {
	if strings.HasSuffix(id, "-DAEMON") || id == "RACE-RESTART" {
		return report.NotApplicable
	}
	return report.Pass
}
