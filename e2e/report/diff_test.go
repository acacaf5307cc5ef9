package report_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

// gone is the outcome of a result that a report does not contain.
const gone = report.Outcome("")

// TestDiff_outcomes compares each outcome with each other one.
func TestDiff_outcomes(t *testing.T) {
	const (
		same, worse, better, changed, fresh, left = "", "worse", "better", "changed", "new", "gone"
	)
	outcomes := []report.Outcome{
		report.Pass, report.Fail, report.Vacuous, report.Skipped, report.NotApplicable, report.NotClaimed,
		report.KnownUpstream, gone,
	}
	for i, row := range [][8]string{
		// to pass, fail, vacuous, skipped, not-applicable, not-claimed, known-upstream, gone
		{same, worse, worse, worse, changed, worse, changed, worse},     // from pass
		{better, same, better, changed, changed, changed, better, left}, // fail
		{better, worse, same, changed, changed, changed, better, left},  // vacuous
		{better, worse, worse, same, changed, changed, changed, left},   // skipped
		{better, worse, worse, changed, same, changed, changed, left},   // not-applicable
		{better, worse, worse, changed, changed, same, changed, left},   // not-claimed
		{better, worse, worse, changed, changed, changed, same, left},   // known-upstream
		{fresh, fresh, fresh, fresh, fresh, fresh, fresh, same},         // gone
	} {
		for j, want := range row {
			from, to := outcomes[i], outcomes[j]
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				for plugin, counts := range map[string]bool{"route": true, "macvlan": false} {
					one := func(o report.Outcome) *report.Report {
						if o == gone {
							return of()
						}
						return of(report.Result{
							ID: "DEL-4", Kind: "requirement", Plugin: plugin, Level: report.Should, Result: o,
						})
					}
					d := report.Diff(one(from), one(to))
					got := map[string]int{
						worse: len(d.Worse), better: len(d.Better), changed: len(d.Changed),
						fresh: len(d.New), left: len(d.Gone),
					}
					wanted := map[string]int{worse: 0, better: 0, changed: 0, fresh: 0, left: 0}
					if want != same {
						wanted[want] = 1
					}
					if diff := cmp.Diff(wanted, got); diff != "" {
						t.Errorf("of %s (-want +got):\n%s", plugin, diff)
					}
					if got, want := d.Regressed(), want == worse && counts; got != want {
						t.Errorf("of %s: regressed: got %t, want %t", plugin, got, want)
					}
				}
			})
		}
	}
}

func TestDiff(t *testing.T) {
	scenario := func(id, plugin string, o report.Outcome, reason string) report.Result {
		return report.Result{ID: id, Kind: "scenario", Plugin: plugin, Level: report.Core, Result: o, Reason: reason}
	}
	verdict := func(v report.Verdict) *report.Report {
		r := of()
		r.Verdict = v
		return r
	}
	score := func(plugin string, noticed, provoked int, missed ...string) *report.Report {
		r := of()
		r.Scores = []report.Score{{Plugin: plugin, Verb: "CHECK", Noticed: noticed, Provoked: provoked, Missed: missed}}
		return r
	}
	other := of()
	other.Profile, other.Implementation.Plugins = "cni", other.Implementation.Plugins[:1]
	for _, tt := range []struct {
		name          string
		before, after *report.Report
		want          []string // lines
		regressed     bool
	}{
		{"the same", read(t, "macvlan.json"), read(t, "macvlan.json"), []string{"no regression"}, false},
		{
			"a scenario that another plugin's call ended counts as it did",
			of(scenario("attach", report.Chain, report.Pass, "")), of(scenario("attach", "macvlan", report.Fail,
				"line 1\nline 2")),
			[]string{"worse:", "  attach                                   pass -> fail", "      line 1", "      line 2", "1 regression"},
			true,
		},
		{
			"a new failure is none by itself",
			of(), of(scenario("attach", report.Chain, report.Fail, "why")),
			[]string{"new:", "  attach                                   (new) -> fail", "      why", "no regression"},
			false,
		},
		{
			"verdict worse", verdict(report.Partial), verdict(report.NotConformant),
			[]string{"worse:", "  verdict                                  partial -> not-conformant", "1 regression"},
			true,
		},
		{
			"verdict unfit", verdict(report.NotConformant), verdict(report.EnvUnfit),
			[]string{"worse:", "  verdict                                  not-conformant -> env-unfit", "1 regression"},
			true,
		},
		{
			"verdict better", verdict(report.Partial), verdict(report.Conformant),
			[]string{"better:", "  verdict                                  partial -> conformant", "no regression"},
			false,
		},
		{
			"a lower score", score("route", 4, 4), score("route", 7, 8, "link down"),
			[]string{"worse:", "  score of CHECK of route                  4 of 4 -> 7 of 8", "      not: link down", "1 regression"},
			true,
		},
		{
			"a lower score of another plugin", score("macvlan", 4, 4), score("macvlan", 0, 4),
			[]string{"worse:", "  score of CHECK of macvlan                4 of 4 -> 0 of 4 (does not count)", "no regression"},
			false,
		},
		{
			"a higher score", score("route", 1, 4), score("route", 2, 6),
			[]string{"better:", "  score of CHECK of route                  1 of 4 -> 2 of 6", "no regression"},
			false,
		},
		{"the same share", score("route", 1, 2), score("route", 2, 4), []string{"no regression"}, false},
		{
			"no score any more", score("route", 1, 2), score("route", 0, 0),
			[]string{"worse:", "  score of CHECK of route                  1 of 2 -> (gone)", "1 regression"},
			true,
		},
		{"no score that was of use", score("route", 0, 2), of(), []string{"no regression"}, false},
		{
			"another run", of(), other,
			[]string{
				"note: plugins: macvlan + route in the old report, macvlan in the new one",
				"note: plugins under test: route in the old report, none in the new one",
				"note: profile: none in the old report, cni in the new one",
				"no regression",
			},
			false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := report.Diff(tt.before, tt.after)
			if got := d.Regressed(); got != tt.regressed {
				t.Errorf("regressed: got %t, want %t", got, tt.regressed)
			}
			var out strings.Builder
			if err := d.Print(&out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Join(tt.want, "\n")+"\n", out.String()); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}
