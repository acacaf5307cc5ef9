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

// Each group has one cause, which is none of the others'.
func TestCauseKey(t *testing.T) {
	apart := "; eth0 of pod/left is a macvlan on eno1, and the kernel keeps such a device and its parent apart"
	seen := map[string]int{}
	for i, group := range [][]string{
		{
			"probe: no reply" + apart, "scenarios/x.yaml:16: probe: no reply" + apart + " (CNI 0.3.1 has no CHECK)",
			"probe" + apart + " (CNI 0.3.1 has no CHECK; reservations are not checked: the IPAM plugin is not host-local)",
			"probe" + apart + " (reservations are not checked: the IPAM plugin is not host-local)",
		},
		{
			"scenarios/x.yaml:16: check pod/web: pod/web: CHECK: macvlan: Expected Route {GW:10.0.0.1} not found (code 999)",
			"CHECK right after ADD: exit status 1, code 999: Expected Route {GW:10.0.0.1} not found (CNI 1.1.0)",
			"CHECK without CNI_ARGS: want success, got exit status 1, code 999: Expected Route {GW:10.0.0.9} not found (CNI 1.1.0); and 1 more",
		},
		{
			`x.yaml:18: del pod/web: pod/web: DEL: host-device: failed to find "eth0": Link not found (code 999); the kernel refused RTM_GETLINK eth0: ENODEV`,
			`DEL again: want success, got exit status 1, code 999: failed to find "eth0": Link not found; the kernel refused RTM_GETLINK eth0: ENODEV (CNI 0.1.0, 1.1.0); and 1 more`,
		},
		{
			"DEL leaves something with each pod: - address fe80::11/64 dev eno1-1: inet6 scope link, and 1 more (CNI 1.1.0)",
			"DEL without prevResult leaves - address fe80::12/64 dev eno1-2: inet6 scope link, and 1 more (CNI 1.0.0, 1.1.0)",
			"17 objects stayed behind after everything was deleted twice; first in reboot on node/a: - address fe80::10/64 dev eno1: inet6 scope link",
		},
		{"STATUS succeeds without the uplink, and ADD fails: exit status 1, code 999: Link not found (CNI 1.1.0)"},
		{"STATUS succeeds with no address left, and ADD fails: exit status 1, code 999: Link not found (CNI 1.1.0)"},
		{"ADD after two that failed: want success, got exit status 1, code 999: Link not found (CNI 1.1.0)"},
		{"DEL of pod/web: want success, got code 999"},
	} {
		for _, reason := range group {
			key := report.CauseKey(reason)
			if other, known := seen[key]; known && other != i {
				t.Errorf("%q has the cause of group %d, want one of its own: %q", reason, other, key)
			}
			seen[key] = i
			if first := report.CauseKey(group[0]); key != first {
				t.Errorf("%q has the cause %q, want %q", reason, key, first)
			}
		}
	}
}
