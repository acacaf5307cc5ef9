package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// sweep injects faults into the plugins under test of a conflist and returns the results by requirement and plugin.
// want are the requirements that fail, with a part of the reason.
func sweep(t *testing.T, want map[string]string, chain ...string) map[string]report.Result {
	t.Helper()
	file := writeConflist(t, "", chain...)
	suite := newSuite(t, e2e.Options{Conflist: file, Plugins: underTest(chain)})
	units, err := suite.Matching("faults")
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]report.Result{}
	for _, u := range units {
		results[u.Name()] = suite.RunWanting(t.Context(), u, func(r report.Result) bool {
			return want[r.ID] != "" && failing(r.ID, want[r.ID])(r)
		})
	}
	if _, err := suite.Finish(); err != nil {
		t.Fatal(err)
	}
	return results
}

// underTest returns the last plugin of a chain, or the only one.
func underTest(chain []string) []string {
	_, name, _ := strings.Cut(chain[len(chain)-1], `"type": "`)
	name, _, _ = strings.Cut(name, `"`)
	return []string{name}
}

// careless returns the configuration of the plugin with a careless fault.
func careless(fault string) string { return fmt.Sprintf(`{"type": "careless", "fault": %q}`, fault) }

// TestSweeps checks that faults are found in plugins with one weakness each, and only by the requirements that concern
// it. A fault after which ADD or DEL cannot clean up shows wherever they are called.
func TestSweeps(t *testing.T) {
	t.Parallel()
	const noRule = "leaves + rule inet 1500: from 192.168.1.2/32"
	plugins(t)
	for _, tt := range sharedOut(t, []struct {
		fault string
		want  map[string]string
	}{
		{"", nil},
		{"record-last", map[string]string{"KILL-ADD": "RTM_NEWRULE", "FAIL-ADD": noRule}},
		{"temp-file", map[string]string{"KILL-ADD": "create /run/careless/.new-"}},
		{"lock-kept", map[string]string{
			"KILL-ADD": "another one is at work", "FAIL-ADD": "another one is at work",
			"KILL-DEL": "another one is at work", "FAIL-DEL": "another one is at work",
		}},
		{"half-record", map[string]string{"KILL-ADD": "unexpected end of JSON input", "FAIL-ADD": "unexpected end of JSON input"}},
		{"ignores-error", map[string]string{"FAIL-ADD": "RTM_NEWRULE priority 1500 from 192.168.1.2/32 table 254 answered with ENOMEM, and lacks + rule"}},
		{"panics", map[string]string{"FAIL-ADD": "want an error object, got exit status 2: panic: "}},
		{"insists", map[string]string{"FAIL-ADD": "answered with EBUSY, hangs"}},
		{"no-record", map[string]string{
			"KILL-ADD": "killed before 1 careless mkdirat", "FAIL-ADD": "no record of", "KILL-DEL": "no record of",
			"FAIL-DEL": "no record of",
		}},
		{"forgets-first", map[string]string{"KILL-DEL": noRule, "FAIL-DEL": noRule}},
		{"del-shrugs", map[string]string{"FAIL-DEL": noRule}},
		{"gc-forgets", map[string]string{"KILL-GC": noRule, "FAIL-GC": noRule}},
		{"gc-shrugs", map[string]string{"FAIL-GC": noRule}},
	}) {
		t.Run(tt.fault, func(t *testing.T) {
			holdLab(t)
			compareSweep(t, sweep(t, tt.want, macvlan, careless(tt.fault)), "careless", tt.want)
		})
	}
}

// compareSweep checks that some requirements fail with a part of their reason, and that the others pass.
func compareSweep(t *testing.T, results map[string]report.Result, plugin string, want map[string]string) {
	t.Helper()
	for _, r := range contract.Requirements() {
		if !r.Sweeps() || r.Sampled() {
			continue
		}
		got, ok := results[r.ID+" "+plugin]
		switch reason := want[r.ID]; {
		case !ok:
			t.Errorf("%s: not asked", r.ID)
		case reason == "" && got.Result != report.Pass && got.Result != report.NotApplicable:
			t.Errorf("%s: got %s: %s, want a pass", r.ID, got.Result, got.Reason)
		case reason != "" && (got.Result != report.Fail || !strings.Contains(allOf(got), reason)):
			t.Errorf("%s: got %s: %s, want a failure with %q", r.ID, got.Result, got.Reason, reason)
		}
	}
}

// allOf returns the reason and all deviations.
func allOf(r report.Result) string {
	text := r.Reason
	for _, e := range r.Evidence {
		text += "\n" + e.Text
	}
	return text
}

// TestSweeps_upstream compares the known results of macvlan: a killed ADD leaves only the link under its first name,
// which no DEL removes.
func TestSweeps_upstream(t *testing.T) {
	holdLab(t)
	got := sweep(t, map[string]string{"KILL-ADD": "RTM_NEWLINK macvlan veth"}, macvlan)["KILL-ADD macvlan"]
	if got.Result != report.Fail || !strings.Contains(got.Reason, "RTM_NEWLINK macvlan veth") ||
		!strings.Contains(got.Reason, " link veth") {
		t.Errorf("got %s: %s, want a failure that names the link", got.Result, got.Reason)
	}
	i := slices.IndexFunc(got.Evidence, func(e report.Evidence) bool {
		return strings.Contains(e.Text, "the calls until then:")
	})
	if i < 0 {
		t.Fatalf("got no story in %v", got.Evidence)
	}
	for _, part := range []string{"what stayed behind:\n+ pod-1 link veth", "then DEL:\n", "CNI_COMMAND=ADD\n"} {
		if !strings.Contains(got.Evidence[i].Text, part) {
			t.Errorf("got the story\n%s\nwant %q in it", got.Evidence[i].Text, part)
		}
	}
}

// TestSweeps_reference checks that the plugins of this repository survive everything.
func TestSweeps_reference(t *testing.T) {
	t.Parallel()
	for _, tt := range sharedOut(t, []struct{ plugin, config string }{
		{"route", route}, {"veth-to-host", `{"type": "veth-to-host", "hostInterface": "eno1"}`},
	}) {
		t.Run(tt.plugin, func(t *testing.T) {
			holdLab(t)
			compareSweep(t, sweep(t, nil, macvlan, tt.config), tt.plugin, nil)
		})
	}
}
