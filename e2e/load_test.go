package e2e_test

import (
	"flag"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/internal/busy"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

// underLoad is a conflist that is run while the machine is busy.
type underLoad struct {
	name, conflist string
	chain          []string
	profile        scenario.Profile
	target         string
	// scenarios are run. Each passes, or with a broken plugin fails for a reason that contains reason.
	scenarios []string
	reason    string
}

func loadRuns() []underLoad {
	const thirdparty, kubernetes = "thirdparty/net.d/", scenario.ProfileKubernetes
	return []underLoad{
		{
			name: "macvlan and route", conflist: "../plugin/route/net.d/01-default-1.1.0.conflist",
			scenarios: []string{"parallel-attach"},
		},
		{
			name: "macvlan and veth-to-host", conflist: "../plugin/veth-to-host/net.d/11-cnichain-1.1.0.conflist",
			profile: kubernetes, scenarios: []string{"service-endpoints-replaced"},
		},
		{
			name: "routed-eni", conflist: "../plugin/routed-eni/net.d/10-routed-eni.conflist", profile: kubernetes,
			target: "../plugin/routed-eni/net.d/10-routed-eni.target.yaml", scenarios: []string{"daemon-restart"},
		},
		{
			name: "bridge", conflist: thirdparty + "bridge.conflist", profile: scenario.ProfileCNI,
			scenarios: []string{"pod-churn"},
		},
		{
			name: "ptp", conflist: thirdparty + "ptp.conflist", profile: scenario.ProfileCNI,
			scenarios: []string{"large-transfer"},
		},
		{
			name: "macvlan", conflist: thirdparty + "macvlan.conflist", profile: scenario.ProfileCNI,
			scenarios: []string{"pod-to-pod-across-nodes"},
		},
		{
			name: "a plugin that loses one packet in 200", chain: afterRoute("loses-rarely"),
			scenarios: []string{"pod-churn"}, reason: " requests, want at most 0",
		},
		{
			name: "a daemon that stops for three seconds", chain: afterRoute("pauses"),
			scenarios: []string{"pod-churn"}, reason: " requests, want at most 0",
		},
		{
			name: "a DEL of forty seconds", chain: afterRoute("deletes-late"),
			scenarios: []string{"del-without-netns"}, reason: "killed",
		},
	}
}

var besideLoad = flag.Bool("load", false, "run what runs beside busy loops, for some minutes")

// TestLoad checks that beside two loops per processor and a disk writer the verdicts are the same as on an idle
// machine, twice. If the machine was too busy for a verdict there may be none, but never another one.
func TestLoad(t *testing.T) {
	if !*besideLoad {
		t.Skip("make stress runs it: it keeps the machine busy")
	}
	bin := plugins(t).plugins
	load, err := busy.Start(2*runtime.NumCPU(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(load.Stop)
	for _, tt := range loadRuns() {
		t.Run(tt.name, func(t *testing.T) {
			options := e2e.Options{
				Conflist: tt.conflist, BinDir: bin, Profile: tt.profile, Claims: scenario.Features(),
			}
			if tt.chain != nil {
				options.Conflist = writeConflist(t, "", tt.chain...)
			}
			if tt.target != "" {
				if options.Target, err = target.Load(tt.target); err != nil {
					t.Fatal(err)
				}
			}
			suite := newSuite(t, options)
			ran := 0
			for _, s := range suite.Scenarios() {
				if !slices.Contains(tt.scenarios, s.Name) {
					continue
				}
				for range 2 {
					ran++
					tt.compare(t, suite.Run(t.Context(), s))
				}
			}
			if ran != 2*len(tt.scenarios) {
				t.Errorf("got %d results, want each of %q twice", ran, tt.scenarios)
			}
		})
	}
}

func (tt underLoad) compare(t *testing.T, got report.Result) {
	t.Helper()
	want := report.Pass
	if tt.reason != "" {
		want = report.Fail
	}
	switch {
	case got.Result == report.Skipped && got.Disturbed != "":
		t.Logf("%s: no verdict: %s", got.ID, got.Reason)
	case got.Result != want || !strings.Contains(got.Reason, tt.reason):
		t.Errorf("%s: got %s %q (%s), want %s %q", got.ID, got.Result, got.Reason, got.Disturbed, want, tt.reason)
	}
}
