package e2e_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// forced are the deviations of every plugin on the reference library to which the requirements apply.
var forced = map[string]report.Outcome{
	"ENV-2": report.KnownUpstream, "ENV-4": report.KnownUpstream, "EXE-2": report.KnownUpstream,
	"VER-3": report.KnownUpstream,
}

// unready returns the common deviations of all plugins of containernetworking/plugins that make a link and delegate to
// host-local: no GC, a STATUS that succeeds without checking anything, routes without the mtu and advmss that the IPAM
// plugin gives them, no mtu of interfaces in the result, and no DEL of an IPAM plugin that failed.
func unready(more map[string]report.Outcome) map[string]report.Outcome {
	all := map[string]report.Outcome{
		"DLG-3": report.Fail, "DLG-4": report.Fail, "DLG-5": report.Fail, "DLG-6": report.Fail,
		"F06": report.Fail, "GC-1": report.Vacuous, "GC-2": report.Vacuous,

		"GC-3": report.Fail, "RES-7": report.Fail, "STA-1": report.Fail, "STA-5": report.Fail,
	}
	maps.Copy(all, forced)
	maps.Copy(all, more)
	return all
}

// racy are the requirements that a plugin fails on some runs and passes on others, because of a race in the plugin.
var racy = map[string][]string{
	// The MAC address of a new bridge changes until the first ADD has set it, and CHECK compares it with the one that
	// ADD read.
	"bridge": {"CHK-6", "LIF-1"},
}

// TestUpstream_contract compares the results of upstream's plugins with the known ones.
func TestUpstream_contract(t *testing.T) {
	t.Parallel()
	plugins(t)
	for _, tt := range sharedOut(t, []struct {
		plugin, config string
		want           map[string]report.Outcome
	}{
		{"macvlan", macvlan, unready(map[string]report.Outcome{
			"D15": report.Fail, "ERR-1": report.Fail, "F01": report.Fail, "F04": report.Fail, "F07": report.Fail,
			"G13": report.Fail, "NET-1": report.Fail,
		})},
		{"host-local", macvlan, unready(map[string]report.Outcome{
			// GC deletes stale attachments, and returns success if that fails.
			"GC-1": "", "GC-2": report.Fail,
			// Its lock is made through a dangling link.
			"E20":   report.Fail,
			"ARG-1": report.Fail, "DLG-3": "", "DLG-4": "", "DLG-5": "", "DLG-6": "", "F06": "", "GC-3": "",
			"RES-7": "",
			"STA-1": report.Vacuous,
		})},
		// The address and the state of the bridge itself are not checked.
		{"bridge", bridge, unready(map[string]report.Outcome{
			"CHK-3": report.Fail, "CHK-5": report.Fail, "F01": report.Fail, "F04": report.Fail, "F06": "",
		})},
		// CHECK does not check the node's end; ADD takes a route to the pod's address that is there for its own.
		{"ptp", ptp, unready(map[string]report.Outcome{
			"CHK-3": report.Fail, "D15": report.Fail, "E17": report.Fail, "ERR-1": report.Fail,
		})},
	}) {
		t.Run(tt.plugin, func(t *testing.T) {
			holdLab(t)
			run := ask(t, []string{tt.config}, tt.plugin, nil)
			got, reasons := map[string]report.Outcome{}, map[string]string{}
			for id, r := range run(func(r *contract.Requirement) bool { return !r.Sweeps() }) {
				if r.Result != report.Pass && r.Result != report.NotApplicable && !slices.Contains(racy[tt.plugin],
					id) {
					got[id], reasons[id] = r.Result, r.Reason
				}
			}
			maps.DeleteFunc(tt.want, func(_ string, o report.Outcome) bool { return o == "" })
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("what does not pass (-want +got):\n%s", diff)
				for _, id := range slices.Sorted(maps.Keys(reasons)) {
					t.Logf("%s: %s", id, reasons[id])
				}
			}
		})
	}
}

// TestVersions checks that one conflist works at every version, and with several versions to choose from, without other
// edits.
func TestVersions(t *testing.T) {
	t.Parallel()
	b := plugins(t)
	for _, tt := range []struct{ versions, want string }{
		{`"cniVersion": "0.3.1"`, "0.3.1"},
		{`"cniVersion": "0.4.0"`, "0.4.0"},
		{`"cniVersion": "1.0.0"`, "1.0.0"},
		{`"cniVersion": "1.1.0"`, "1.1.0"},
		{`"cniVersion": "0.3.1", "cniVersions": ["0.4.0", "1.1.0"]`, "1.1.0"},
	} {
		t.Run(tt.versions, func(t *testing.T) {
			holdLab(t)
			path := filepath.Join(t.TempDir(), "net.conflist")
			text := `{` + tt.versions + `, "name": "net", "plugins": [` + strings.Join([]string{macvlan, route}, ", ") +
				`]}`
			if !json.Valid([]byte(text)) {
				t.Fatalf("conflist is no JSON:\n%s", text)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			suite, err := e2e.New(e2e.Options{Conflist: path, BinDir: b.plugins, Backend: backend()})
			if err != nil {
				t.Fatal(err)
			}
			names := []string{"cache-cleanup", "host-to-pod", "del-twice", "CHK-6 route", "VER-4 route", "DEL-2 route"}
			for _, u := range suite.Units() {
				if !slices.Contains(names, u.Name()) {
					continue
				}
				if r := suite.RunUnit(t.Context(), u); r.Result != report.Pass {
					t.Errorf("%s: got %s: %s, want a pass", u.Name(), r.Result, r.Reason)
				}
			}
			r, err := suite.Finish()
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Implementation.CNIVersion; got != tt.want {
				t.Errorf("got CNI %s, want %s", got, tt.want)
			}
		})
	}
}
