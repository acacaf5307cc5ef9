package report_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

// of returns a report on macvlan, which is not under test, and route, which is.
func of(results ...report.Result) *report.Report {
	return &report.Report{
		Implementation: report.Implementation{
			Plugins: []report.Plugin{{Type: "macvlan"}, {Type: "route", UnderTest: true}},
		},
		Results: results,
	}
}

func TestReport_Judge(t *testing.T) {
	const (
		ok     = report.Conformant
		part   = report.Partial
		failed = report.NotConformant
	)
	levels := []string{report.Core, report.Extended, report.Must, report.Should}
	for _, tt := range []struct {
		outcome report.Outcome
		want    [4]report.Verdict // by level, if the result counts and another one passed
	}{
		{report.Pass, [4]report.Verdict{ok, ok, ok, ok}},
		{report.Fail, [4]report.Verdict{failed, failed, failed, failed}},
		{report.Vacuous, [4]report.Verdict{failed, failed, failed, ok}},
		{report.NotApplicable, [4]report.Verdict{ok, ok, ok, ok}},
		{report.NotClaimed, [4]report.Verdict{ok, ok, ok, ok}},
		{report.Skipped, [4]report.Verdict{part, ok, part, ok}},
		{report.KnownUpstream, [4]report.Verdict{ok, ok, ok, ok}},
	} {
		for i, level := range levels {
			for plugin, counts := range map[string]bool{
				report.Chain: true, "route": true, "macvlan": false, "host-local": false,
			} {
				t.Run(fmt.Sprintf("%s %s of %s", level, tt.outcome, plugin), func(t *testing.T) {
					want := ok
					if counts {
						want = tt.want[i]
					}
					pass := report.Result{Plugin: report.Chain, Level: report.Core, Result: report.Pass}
					result := report.Result{Plugin: plugin, Level: level, Result: tt.outcome}
					// The order of results does not matter.
					for _, r := range []*report.Report{of(pass, result), of(result, pass)} {
						if got := r.Judge(); got != want {
							t.Errorf("got %s, want %s", got, want)
						}
						if got := r.Counts(result); got != counts {
							t.Errorf("counts: got %t, want %t", got, counts)
						}
						wantFindings := 0
						if !counts && (tt.outcome == report.Fail || tt.outcome == report.Vacuous) {
							wantFindings = 1
						}
						if got := len(r.Findings()); got != wantFindings {
							t.Errorf("findings: got %d, want %d", got, wantFindings)
						}
					}
				})
			}
		}
	}
}

func TestReport_Judge_several(t *testing.T) {
	result := func(o report.Outcome) report.Result {
		return report.Result{Plugin: report.Chain, Level: report.Core, Result: o}
	}
	for _, tt := range []struct {
		name    string
		results []report.Result
		want    report.Verdict
	}{
		{"nothing", nil, report.Partial},
		{"nothing that counts passed", []report.Result{result(report.NotClaimed), {Plugin: "macvlan", Result: report.Pass}}, report.Partial},
		{"a failure outweighs what was skipped before", []report.Result{result(report.Skipped), result(report.Fail)}, report.NotConformant},
		{"and after", []report.Result{result(report.Fail), result(report.Skipped)}, report.NotConformant},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := of(tt.results...).Judge(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestReport_Count(t *testing.T) {
	r := of(report.Result{Result: report.Pass}, report.Result{Result: report.Skipped},
		report.Result{Result: report.Pass})
	for outcome, want := range map[report.Outcome]int{report.Pass: 2, report.Skipped: 1, report.Fail: 0} {
		if got := r.Count(outcome); got != want {
			t.Errorf("%s: got %d, want %d", outcome, got, want)
		}
	}
}

// fullReport returns a report with a value in each field.
func fullReport() *report.Report {
	return &report.Report{
		APIVersion: report.APIVersion, Kind: report.Kind, Verdict: report.NotConformant,
		Suite: report.Suite{Version: "v0.1.0"},
		Implementation: report.Implementation{
			Origin: report.Origin{
				Organization: "Example Networks", Project: "mynet", URL: "https://example.org/mynet", Version: "v1.2.3",
				Contact: "cni@example.org",
			},
			Conflist: "net.d/00-default.conflist", CNIVersion: "0.4.0",
			Plugins: []report.Plugin{
				{Type: "macvlan", Version: "v1.9.1", SHA256: "aa"}, {Type: "route", UnderTest: true, SHA256: "bb"},
			},
		},
		Profile: "underlay", Backend: "netns", Kernel: "6.18.44", DurationSeconds: 1.2,
		Started:     time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC),
		Interrupted: true,
		Runs: &report.Runs{Count: 2, Flakes: []report.Flake{
			{ID: "del-twice", Outcomes: []report.FlakeOutcome{{Result: report.Pass, Runs: 1}, {Result: report.Fail, Runs: 1}}},
		}},
		Inputs: &report.Inputs{
			Command: "cnitest run net.d/00-default.conflist --bin-dir bin", Questions: strings.Repeat("a", 64),
			Files:     []report.InputFile{report.NewInputFile("00-default.conflist", []byte("{}\n"))},
			Selection: "del-*", Quick: true, Shard: "1/2", Shards: 2, SHA256: strings.Repeat("b", 64),
		},
		Lab: &report.Lab{
			Networks: []string{"192.168.0.0/16"},
			Nodes:    []report.LabNode{{Name: "node/a", Uplink: "eno1", Addresses: []string{"192.168.0.2"}, Pods: 126}},
			Hosts: []report.LabHost{
				{Name: "host/router", Addresses: []string{"192.168.0.1"}},
				{Name: "host/external", Behind: "host/router"},
			},
		},
		Results: []report.Result{
			{
				ID: "host-to-pod", Title: "A node and a pod on it reach each other.",
				Why: "The kubelet's probes need it.", Kind: "scenario",
				Plugin: report.Chain, Level: report.Core, Result: report.Pass, Covers: []string{"A01"},
				DurationSeconds: 0.1,
			},
			{
				ID: "del-twice", Title: "A second DEL succeeds.", Kind: "scenario", Plugin: "route", Level: report.Core,
				Result: report.Fail, Reason: "route: no luck (code 7)",
				Repeat: "cnitest run net.d/00-default.conflist --bin-dir bin --scenario del-twice",
				Evidence: []report.Evidence{
					{Title: "step", Text: "del-twice.yaml:12: del: pod/server"},
					{Title: "state of node/a", Text: "+ route 192.168.1.2/32\n- link eth1\n~ link eno1: up -> down"},
					{Title: "packets", File: "captures/del-twice #1.pcapng"},
				},
			},
		},
		FailureModes: []report.FailureMode{{ID: "A01", Symptom: "The node does not reach its own pods"}},
		Scores: []report.Score{
			{Plugin: "route", Verb: "CHECK", Noticed: 1, Provoked: 2, Missed: []string{"link eth0 in the pod set down"}},
			{Plugin: "route", Verb: "STATUS", Noticed: 1, Provoked: 1, Missed: []string{}},
		},
		CallTimes: []report.CallTime{
			{
				Plugin: "route", Verb: "ADD", Calls: 140, MedianSeconds: 0.004, P99Seconds: 0.0125,
				Paired: &report.PairedTime{
					Ratio: 2.6, Growth: &report.Growth{Seconds: 0.00001, ErrorSeconds: 0.00002},
				},
			},
			{Plugin: "route", Verb: "GC", Calls: 1, MedianSeconds: 0.003, P99Seconds: 0.003},
		},
		Figures: []report.Figure{
			{What: "DEL while ipamd hangs", Times: 3, MedianSeconds: 0.5, WorstSeconds: 0.75, LimitSeconds: 1.5},
			{What: "RunPodSandbox", Times: 15, MedianSeconds: 0.1, WorstSeconds: 0.2},
			{What: "STATUS", Times: 40, MedianSeconds: 0.008},
		},
		Residue: []report.Residue{{Plugin: "route", Item: "link eno1.host", Change: "+ link eno1.host: <UP>"}},
		Notes:   []string{"a note"},
	}
}

// Other programs read the names of the fields.
func TestReport_WriteFile(t *testing.T) {
	full := fullReport()
	for _, tt := range []struct {
		name string
		in   *report.Report
		want string
	}{
		{"full", full, "full.json"},
		{"nothing in it", &report.Report{APIVersion: report.APIVersion, Kind: report.Kind, Verdict: report.Partial}, "empty.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "new", "directory", "report.json")
			for range 2 {
				if err := tt.in.WriteFile(path); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join("testdata", tt.want))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("document (-want +got):\n%s", diff)
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(entries) != 1 {
				t.Errorf("got %v, %v beside the document, want nothing", entries, err)
			}
		})
	}
	t.Run("reads back", func(t *testing.T) {
		got, err := report.ReadFile(filepath.Join("testdata", "full.json"))
		if err != nil {
			t.Fatal(err)
		}
		want := *full
		want.Digest = full.Sum()
		want.Results = []report.Result{full.Results[0], full.Results[1]}
		want.Results[1].Covers = []string{}
		want.Lab.Hosts[1].Addresses = []string{}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
	})
	t.Run("a file where a directory is wanted", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		err := full.WriteFile(filepath.Join(file, "report.json"))
		var path *fs.PathError
		if !errors.As(err, &path) || path.Path != file {
			t.Errorf("got %v, want an error that names %s", err, file)
		}
	})
}
