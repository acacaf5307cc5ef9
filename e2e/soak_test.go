package e2e_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/internal/soak"
	"github.com/cnitest/cnitest/e2e/report"
)

// soakResults returns the report of a soak, and its progress messages. A soak with the wanted result is not run again.
func soakResults(
	t *testing.T, options e2e.Options, wanted func(report.Result) bool,
) (r *report.Report, told []string) {
	t.Helper()
	var mu sync.Mutex
	options.Observe.Progress = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, text)
	}
	suite := newSuite(t, options)
	if err := suite.Prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, u := range suite.Units() {
		suite.RunWanting(context.Background(), u, wanted)
	}
	r, err := suite.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return r, told
}

// outcomes returns results by id and plugin.
func outcomes(r *report.Report) map[string]report.Outcome {
	all := map[string]report.Outcome{}
	for _, result := range r.Results {
		all[result.ID+" "+result.Plugin] = result.Result
	}
	return all
}

func TestSoak(t *testing.T) {
	holdLab(t)
	// With few addresses each has many owners one after the other.
	few := strings.Replace(macvlan, "192.168.1.254", "192.168.1.9", 1)
	r, told := soakResults(t, e2e.Options{
		Conflist: writeConflist(t, "", few, route), Soak: e2e.Soak{For: 3 * time.Second, Pods: 5},
	}, nil)
	want := map[string]report.Outcome{
		"soak chain": report.Pass, "leaves-nothing macvlan": report.Pass, "leaves-nothing route": report.Pass,
	}
	if diff := cmp.Diff(outcomes(r), want); diff != "" {
		t.Errorf("got, want results (-got +want):\n%s\n%v", diff, r.Results)
	}
	if r.Verdict != report.Conformant {
		t.Errorf("got verdict %s, want conformant", r.Verdict)
	}
	figures := regexp.MustCompile(`^\d+s on 2 nodes with up to [1-5] pods at once beside 2 that stayed, \d+ ADDs, ` +
		`\d+ CHECKs, \d+ DELs, \d+ probes$`)
	for _, result := range r.Results {
		if result.ID == soak.ID && !figures.MatchString(result.Reason) {
			t.Errorf("got %q, want %s", result.Reason, figures)
		}
	}
	line := regexp.MustCompile(`^\d+s of 3s: \d+ attachments, \d+\.\d/s, 0 failed$`)
	if len(told) == 0 || slices.ContainsFunc(told, func(s string) bool { return !line.MatchString(s) }) {
		t.Errorf("got progress %q, want lines %s", told, line)
	}
}

// TestSoak_finds checks that each broken invariant is noticed before the time is over, and explained.
func TestSoak_finds(t *testing.T) {
	t.Parallel()
	for _, tt := range sharedOut(t, []struct {
		name       string
		chain      []string
		brokenIPAM bool
		soak       time.Duration
		pods       int
		plugin     string
		reason     string   // a pattern of the reason
		evidence   []string // beginnings of titles
	}{
		{
			name: "an address twice", brokenIPAM: true, chain: withIPAM("no-lock"), plugin: report.Chain,
			soak: time.Minute, pods: 8,
			// The pod that leaves first releases the other's reservation too, which CHECK of the other may notice
			// first.
			reason:   `^after \d+s: pod/\S+: (ADD gave 192\.168\.1\.\d+, which pod/\S+ has on eth0|CHECK: macvlan: host-local: Failed to find address) `,
			evidence: []string{"macvlan ADD"},
		},
		{
			name: "a DEL that takes from other pods", chain: afterRoute("removes-shared"), plugin: "route",
			soak: time.Minute, pods: 8,
			reason: `^after \d+s: pod/\S+: CHECK: route: `, evidence: []string{"route CHECK", "state of node/"},
		},
		{
			name: "an unreachable pod", chain: []string{macvlan}, plugin: report.Chain, soak: time.Minute, pods: 8,
			reason:   `^after \d+s: node/a to pod/stayer-a, tcp to 192\.168\.1\.2 port 8080: `,
			evidence: []string{"path of the packets"},
		},
		{
			// A second pod could find the uplink just set down by the first.
			name: "a flow that loses", chain: afterRoute("flaps"), plugin: report.Chain, soak: 8 * time.Second, pods: 1,
			reason:   `^after \d+s: flow \S+ to \S+ \S+ lost \d+ of \d+ requests, want at most 0`,
			evidence: []string{"state of node/"},
		},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			holdLab(t)
			options := e2e.Options{
				Conflist: writeConflist(t, "", tt.chain...), Soak: e2e.Soak{For: tt.soak, Pods: tt.pods},
			}
			if tt.brokenIPAM {
				options.BinDir = plugins(t).brokenIPAM
			}
			wanted := func(r report.Result) bool {
				return r.Result == report.Fail && r.Plugin == tt.plugin &&
					regexp.MustCompile(tt.reason).MatchString(r.Reason)
			}
			r, _ := soakResults(t, options, wanted)
			if r.Verdict != report.NotConformant {
				t.Errorf("got verdict %s, want not-conformant", r.Verdict)
			}
			for _, result := range r.Results {
				if result.ID != soak.ID {
					continue
				}
				if !wanted(result) {
					t.Errorf("got %s of %s: %s\nwant fail of %s: %s", result.Result, result.Plugin, result.Reason,
						tt.plugin, tt.reason)
				}
				for _, want := range tt.evidence {
					if !slices.ContainsFunc(result.Evidence, func(e report.Evidence) bool {
						return strings.HasPrefix(e.Title, want)
					}) {
						t.Errorf("got evidence %v, want %q", result.Evidence, want)
					}
				}
			}
		})
	}
}

// TestSoak_leaves checks that what a soak leaves on its nodes is reported, as after a scenario.
func TestSoak_leaves(t *testing.T) {
	holdLab(t)
	r, _ := soakResults(t, e2e.Options{
		Conflist: writeConflist(t, "", afterRoute("leaks-file")...), Soak: e2e.Soak{For: time.Second, Pods: 1},
	}, pass().matches) // what stays behind is wanted, too
	want := map[string]report.Outcome{
		"soak chain": report.Pass, "leaves-nothing macvlan": report.Pass, "leaves-nothing route": report.Pass,
		"leaves-nothing broken": report.Fail,
		// For pods that come and go it is not recorded which plugin made what.
		"leaves-nothing chain": report.Fail,
	}
	if diff := cmp.Diff(outcomes(r), want); diff != "" {
		t.Errorf("got, want results (-got +want):\n%s\n%v", diff, r.Results)
	}
}
