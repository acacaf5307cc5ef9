package report_test

import (
	"html"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

var tags = regexp.MustCompile(`<[^>]*>`)

// The top of a page shows first what decided the most failures, once for all of them.
func TestReport_WriteHTML_causes(t *testing.T) {
	const del4, del2 = "DEL of pod/web: want success, got code 999; and 2 more",
		"DEL of pod/pod-7: want success, got code 999"
	fails := func(id, reason string) report.Result {
		return report.Result{
			ID: id, Kind: "scenario", Plugin: report.Chain, Level: report.Core, Result: report.Fail, Reason: reason,
		}
	}
	r := of(
		fails("alone", "flow broke: no route to host\nanother flow broke"),
		fails("first", `probe of 192.168.1.2; node/a dropped it: rule "ip daddr 192.168.1.2 drop" on veth8b43a90a`),
		fails("second", `probe of fd00::7; node/b dropped it: rule "ip daddr fd00::7 drop" on veth949a6b77`),
		fails("other", `probe of 192.168.1.2; node/a dropped it: rule "ip saddr 192.168.1.2 drop" on veth8b43a90a`),
		report.Result{ID: "DEL-4", Plugin: "route", Level: report.Must, Result: report.Fail, Reason: del4},
		report.Result{ID: "DEL-2", Plugin: "route", Level: report.Must, Result: report.Fail, Reason: del2},
		report.Result{ID: "GC-1", Plugin: "route", Level: report.Must, Result: report.Vacuous, Reason: "GC deletes nothing"},
		report.Result{ID: "GC-2", Plugin: "route", Level: report.Must, Result: report.Fail, Reason: "GC fails"},
		report.Result{ID: "GC-3", Plugin: "macvlan", Level: report.Must, Result: report.Fail, Reason: "it is not under test"},
		report.Result{ID: "GC-4", Plugin: "route", Level: report.Must, Result: report.Fail, Reason: "GC hangs"},
		fails("long", strings.Repeat("word ", 1000)),
	)
	_, rest, _ := strings.Cut(render(t, r), `<ol class="causes">`)
	list, rest, _ := strings.Cut(rest, "</ol>")
	got := strings.Split(strings.TrimSpace(html.UnescapeString(tags.ReplaceAllString(list, ""))), "\n")
	want := []string{
		`first and 1 more: probe of 192.168.1.2; node/a dropped it: rule "ip daddr 192.168.1.2 drop" on veth8b43a90a`,
		`DEL-4 route and 1 more: DEL of pod/web: want success, got code 999`,
		`alone: flow broke: no route to host`,
		`other: probe of 192.168.1.2; node/a dropped it: rule "ip saddr 192.168.1.2 drop" on veth8b43a90a`,
		`GC-1 route: GC deletes nothing`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("causes (-want +got):\n%s", diff)
	}
	if !strings.Contains(rest, "There are 3 further reasons below.") {
		t.Error("want the number of those that are left out")
	}
	if page := render(t, of(report.Result{Plugin: report.Chain, Result: report.Pass})); strings.Contains(page,
		"in short") {
		t.Error("got causes of a report without failures")
	}
}
