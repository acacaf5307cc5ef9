package e2e_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/report"
)

// TestLeavesNothing checks that growing state is attributed to the plugin that made it, and that state which only the
// first use leaves is distinguished from it.
func TestLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range sharedOut(t, []struct {
		fault string
		// want are the results by plugin.
		want map[string]report.Outcome
		// reason is a part of the reason about the plugin broken
		reason string
		// residue is what the plugin broken leaves at its first use.
		residue []string
	}{
		{
			fault: "leaks-rule", reason: "first in cache-cleanup on node/a: + rule inet 1000: from 192.168.1.2/32",
			want: map[string]report.Outcome{"macvlan": report.Pass, "route": report.Pass, "broken": report.Fail},
		},
		{
			fault: "leaks-file", reason: "2 objects stayed behind after everything was deleted twice; first in " +
				"cache-cleanup on node/a: + file /var/lib/broken",
			want: map[string]report.Outcome{"macvlan": report.Pass, "route": report.Pass, "broken": report.Fail},
		},
		{
			fault: "leaves-process", reason: "+ process ",
			want: map[string]report.Outcome{"macvlan": report.Pass, "route": report.Pass, "broken": report.Fail},
		},
		{
			fault: "removes-default", reason: "- route default table main",
			want: map[string]report.Outcome{"macvlan": report.Pass, "route": report.Pass, "broken": report.Fail},
		},
		{
			fault: "shrinks-uplink", reason: "~ link eno1: ", residue: []string{
				"sysctl net.ipv6.conf.eno1.mtu: 1500 -> 1400",
			},
			want: map[string]report.Outcome{"macvlan": report.Pass, "route": report.Pass, "broken": report.Fail},
		},
		{
			// A setting that stays the same after the first pod is listed; one that changes with each pod is a failure.
			fault: "raises-sysctl", reason: "~ sysctl net.ipv4.tcp_keepalive_time: 7200 -> 720",
			want: map[string]report.Outcome{"macvlan": report.Pass, "route": report.Pass, "broken": report.Fail},
		},
		{
			fault: "keeps-lock", residue: []string{"file /var/lib/broken", "file /var/lib/broken/lock"},
			want: map[string]report.Outcome{"macvlan": report.Pass, "route": report.Pass, "broken": report.Pass},
		},
	}) {
		t.Run(tt.fault, func(t *testing.T) {
			holdLab(t)
			suite := newSuite(t, e2e.Options{
				Conflist: writeConflist(t, "", afterRoute(tt.fault)...), Select: e2e.Selection{Names: "cache-cleanup"},
			})
			if err := suite.Prepare(context.Background()); err != nil {
				t.Fatal(err)
			}
			for _, s := range suite.Scenarios() {
				// What stays behind is wanted, too.
				wanted := func(r report.Result) bool { return tt.want["broken"] == report.Fail && pass().matches(r) }
				pass().compare(t, suite.RunScenarioWanting(context.Background(), s, wanted))
			}
			r, err := suite.Finish()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]report.Outcome{}
			for _, result := range r.Results {
				if result.ID != "leaves-nothing" {
					continue
				}
				got[result.Plugin] = result.Result
				if result.Plugin == "broken" && !strings.Contains(result.Reason, tt.reason) {
					t.Errorf("reason: got %s, want … %s …", result.Reason, tt.reason)
				}
				if result.Result == report.Fail && len(result.Evidence) == 0 {
					t.Errorf("%s: no evidence", result.Plugin)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("leaves-nothing by plugin (-want +got):\n%s", diff)
			}
			var residue []string
			for _, item := range r.Residue {
				if item.Plugin == "broken" {
					residue = append(residue, item.Item)
				}
			}
			if diff := cmp.Diff(tt.residue, residue); diff != "" {
				t.Errorf("residue of broken (-want +got):\n%s", diff)
			}
		})
	}
}
