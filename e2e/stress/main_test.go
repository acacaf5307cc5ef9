package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/internal/testbin"
	"github.com/cnitest/cnitest/e2e/report"
)

// TestStress is the short form of make stress: two scenarios of one chain, once beside loops and once beside other
// runs.
func TestStress(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("want root, to make network namespaces")
	}
	bin := t.TempDir()
	const upstream = "github.com/containernetworking/plugins/plugins/"
	if err := testbin.Build(bin, "../cmd/cnitest", "../../plugin/route", upstream+"main/macvlan",
		upstream+"ipam/host-local"); err != nil {
		t.Fatal(err)
	}
	var runs []string
	for _, scenario := range []string{"host-to-pod", "pod-to-pod-same-node"} {
		runs = append(runs, strings.Join([]string{
			"../../plugin/route/net.d/01-default-1.1.0.conflist", "--bin-dir", bin, "--scenario", scenario,
		}, " "))
	}
	different, err := stress(context.Background(), bin+"/cnitest", 1, runs)
	if err != nil || different > 0 {
		t.Errorf("got %d differences from the quiet run, %v; the lines above name them", different, err)
	}
}

func TestSubject_compare(t *testing.T) {
	ids := []string{"host-to-pod", "pod-churn", "pod-to-pod-same-node"}
	run := func(verdict report.Verdict, outcomes ...report.Outcome) *report.Report {
		r := &report.Report{Verdict: verdict}
		for i, outcome := range outcomes {
			r.Results = append(r.Results, report.Result{
				ID: ids[i], Plugin: report.Chain, Kind: "scenario", Level: report.Must, Result: outcome,
			})
		}
		return r
	}
	quiet := run(report.Conformant, report.Pass, report.KnownUpstream, report.Fail)
	for name, tt := range map[string]struct {
		now  *report.Report
		want int
	}{
		"the same":                {run(report.Conformant, report.Pass, report.KnownUpstream, report.Fail), 0},
		"a failure and a verdict": {run(report.NotConformant, report.Fail, report.KnownUpstream, report.Fail), 2},
		"an excuse":               {run(report.Conformant, report.Skipped, report.KnownUpstream, report.Fail), 1},
		"better":                  {run(report.Conformant, report.Pass, report.Pass, report.Fail), 1},
		"a race":                  {run(report.Conformant, report.Pass, report.KnownUpstream, report.Pass), 0},
		"a race that is skipped":  {run(report.Conformant, report.Pass, report.KnownUpstream, report.Skipped), 1},
		"two that are gone":       {run(report.Conformant, report.Pass), 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newSubject([]string{"net.conflist", "--expect", "testdata/net.expected.yaml"})
			if err != nil {
				t.Fatal(err)
			}
			s.quiet = quiet
			if got := s.compare(tt.now, "beside loops"); got != tt.want {
				t.Errorf("got %d differences, want %d", got, tt.want)
			}
		})
	}
}
