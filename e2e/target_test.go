package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

func TestSuite_exclude_without_a_target(t *testing.T) {
	daemon := &scenario.Scenario{
		Features: []scenario.Feature{scenario.DaemonRestart}, Steps: []scenario.Step{{Daemon: &scenario.Daemon{}}},
	}
	cloud := &scenario.Scenario{Nodes: []scenario.Node{{ENIs: 2}}}
	neighbour := &scenario.Scenario{Steps: []scenario.Step{{Neighbour: &scenario.Neighbour{}}}}
	advertise := &scenario.Scenario{Steps: []scenario.Step{{Advertise: &scenario.Advertise{}}}}
	both := &target.Target{Daemon: &target.Daemon{}, Cloud: &target.Cloud{}}
	for name, tt := range map[string]struct {
		target   *target.Target
		scenario *scenario.Scenario
		want     report.Outcome
		reason   string
	}{
		"daemon, no target":  {nil, daemon, report.Skipped, "no target file names a daemon (--target)"},
		"daemon, cloud only": {&target.Target{Cloud: both.Cloud}, daemon, report.Skipped, "no target file names a daemon (--target)"},
		"daemon":             {both, daemon, "", ""},
		"cloud, no target":   {nil, cloud, report.Skipped, "no target file asks for a cloud (--target)"},
		"cloud":              {both, cloud, "", ""},
		"neighbours":         {nil, neighbour, "", ""},
		"neighbours, cloud":  {both, neighbour, report.NotApplicable, "the network of a cloud is routed: nobody sees the MAC addresses of others"},
		"IPv6, cloud":        {both, advertise, report.NotApplicable, "the network of the lab's cloud is IPv4 only"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &Options{Target: tt.target}
			outcome, reason := o.withoutTarget(tt.scenario)
			if outcome != tt.want || reason != tt.reason {
				t.Errorf("got %s, %q, want %s, %q", outcome, reason, tt.want, tt.reason)
			}
		})
	}
}

func TestOptions_claimTarget(t *testing.T) {
	own := []scenario.Feature{scenario.Hairpin}
	o := &Options{Claims: own, Target: &target.Target{Daemon: &target.Daemon{}, Cloud: &target.Cloud{}}}
	o.claimTarget()
	if got, want := fmt.Sprint(o.Claims), "[Hairpin DaemonRestart DaemonIsolation CloudENIs]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(own) != 1 {
		t.Errorf("got %v, want the caller's claims as they were", own)
	}
}

// The version of an option is that of the report, since a file that is checked in cannot know it.
func TestOptions_origin(t *testing.T) {
	named := &target.Target{Implementation: &report.Origin{Organization: "Example Networks", Version: "v1.2.3"}}
	for name, tt := range map[string]struct {
		options Options
		want    report.Origin
	}{
		"nothing": {Options{Target: &target.Target{}}, report.Origin{}},
		"file":    {Options{Target: named}, *named.Implementation},
		"option":  {Options{ImplementationVersion: "v2.0.0"}, report.Origin{Version: "v2.0.0"}},
		"both": {
			Options{Target: named, ImplementationVersion: "v2.0.0"},
			report.Origin{Organization: "Example Networks", Version: "v2.0.0"},
		},
	} {
		if got := tt.options.origin(); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
	o := Options{ImplementationVersion: "v2.0.0", Conflist: "net.d/10-my.conflist", BinDir: "bin"}
	const want = "--implementation-version v2.0.0"
	if got := o.Command(""); !strings.Contains(got, want) {
		t.Errorf("got the command %s, want %s in it", got, want)
	}
}
