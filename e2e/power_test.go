package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/target"
)

// unsynced returns the configuration of the plugin with a fault of what it writes on the disk.
func unsynced(fault string) string { return fmt.Sprintf(`{"type": "unsynced", "fault": %q}`, fault) }

// cutPower asks plugins about power cuts, and returns the results by requirement and plugin.
func cutPower(
	t *testing.T, selection e2e.Selection, wanted failure, plugin string, chain ...string,
) map[string]report.Result {
	t.Helper()
	return ofLabel(t, "power", wanted, e2e.Options{
		Conflist: writeConflist(t, "", chain...), Plugins: []string{plugin}, Select: selection,
	})
}

// powerDefects are the faults of the plugin unsynced: the requirement that finds each, and words of the disk and of
// what fails then.
func powerDefects() []struct{ fault, id, disk, want string } {
	return []struct{ fault, id, disk, want string }{
		{"renames-first", "POWER-ADD", "/table.json is empty (of ", "table.json: unexpected end of JSON input"},
		{"in-place", "POWER-ADD", "/table.json is empty (of ", "table.json: unexpected end of JSON input"},
		{"directory-unsynced", "POWER-ADD", "-eth0.new → /var/lib/unsynced/records/cnitest-old-", "no number is left of 3"},
		{"del-in-place", "POWER-DEL", "/table.json is empty (of ", "table.json: unexpected end of JSON input"},
		{"gc-in-place", "POWER-GC", "/table.json is empty (of ", "table.json: unexpected end of JSON input"},
	}
}

// TestPower checks that each fault is found for its reason, that no other verb is blamed, and that the token of the
// failure repeats it.
func TestPower(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, tt := range sharedOut(t, powerDefects()) {
		t.Run(tt.fault, func(t *testing.T) {
			holdLab(t)
			wanted := failing(tt.id, tt.disk, tt.want)
			results := cutPower(t, e2e.Selection{Seed: 1}, wanted, "unsynced", macvlan, unsynced(tt.fault))
			got := results[tt.id]
			for _, part := range []string{tt.disk, tt.want, "the power fails", "CNI_COMMAND="} {
				if got.Result != report.Fail || !strings.Contains(allOf(got), part) {
					t.Fatalf("got %s: %s, want a failure with %q", got.Result, allOf(got), part)
				}
			}
			replays(t, got, func(one e2e.Selection) map[string]report.Result {
				return cutPower(t, one, wanted, "unsynced", macvlan, unsynced(tt.fault))
			})
		})
	}
}

// TestPower_daemon checks that the files of a daemon count, and that one that does not start again is a failure.
func TestPower_daemon(t *testing.T) {
	t.Parallel()
	plugins(t)
	const asks = `{"type": "unsynced", "daemon": true}`
	for _, tt := range sharedOut(t, []struct{ name, want string }{
		{"sound", ""}, {"in-place", "the daemon does not start: "},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			holdLab(t)
			var wanted failure
			if tt.want != "" {
				wanted = failing("POWER-ADD", tt.want)
			}
			results := ofLabel(t, "power", wanted, e2e.Options{
				Conflist: writeConflist(t, "", macvlan, asks), Plugins: []string{"unsynced"}, Select: e2e.Selection{Seed: 1},
				Target: &target.Target{Daemon: &target.Daemon{
					Name: "unsynced", Command: []string{"unsynced", "daemon", tt.name}, Ready: target.Ready{Socket: "/run/unsynced.sock"},
					Owns: []string{"/run/unsynced.sock", "/var/lib/unsynced"},
				}},
			})
			got := results["POWER-ADD"]
			if failed := got.Result == report.Fail; failed != (tt.want != "") || !strings.Contains(allOf(got),
				tt.want) {
				t.Errorf("got %s: %s, want %q", got.Result, allOf(got), tt.want)
			}
			if tt.want != "" && !strings.Contains(allOf(got),
				"/var/lib/unsynced/daemon.json: unexpected end of JSON input") {
				t.Errorf("got %s, want what the daemon says of its file", allOf(got))
			}
		})
	}
}

// TestPower_complete checks that a broken plugin fails each requirement.
func TestPower_complete(t *testing.T) {
	var found []string
	for _, d := range powerDefects() {
		found = append(found, d.id)
	}
	eachFound(t, found, contract.PowerCuts)
}

// TestPower_pass checks that a plugin that syncs what it writes passes, and that nothing is asked of one that writes
// nothing.
func TestPower_pass(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, tt := range sharedOut(t, []struct {
		plugin, config string
		want           report.Outcome
	}{
		{"unsynced", unsynced(""), report.Pass}, {"route", route, report.NotApplicable},
	}) {
		t.Run(tt.plugin, func(t *testing.T) {
			holdLab(t)
			for id, got := range cutPower(t, e2e.Selection{Seed: 1}, nil, tt.plugin, macvlan, tt.config) {
				if got.Result != tt.want {
					t.Errorf("%s: got %s: %s, want %s", id, got.Result, allOf(got), tt.want)
				}
			}
		})
	}
}

// TestPower_upstream checks what users met: a reservation of host-local that is an empty file belongs to nobody, and
// its address is lost (containernetworking/plugins#498). A plugin that delegates to host-local cannot help it.
func TestPower_upstream(t *testing.T) {
	token, err := contract.ParseToken("macvlan:POWER-ADD:cache:5:empty@/var/lib/cni/networks/net/192.168.1.2")
	if err != nil {
		t.Fatal(err)
	}
	holdLab(t)
	plugins(t)
	got := cutPower(t, e2e.Selection{Replay: token}, nil, "macvlan", macvlan)["POWER-ADD"]
	const want = "/192.168.1.2 is empty (of 19 bytes); a runtime with its cache, ADD of pod 3 of 3: want success, got"
	if got.Result != report.KnownUpstream || !strings.Contains(got.Reason, want) ||
		!strings.Contains(got.Reason, "host-local, which keeps the addresses") {
		t.Errorf("got %s: %s, want %s with %q, and whose fault it is", got.Result, got.Reason, report.KnownUpstream,
			want)
	}
}
