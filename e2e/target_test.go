package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

func TestRefused(t *testing.T) {
	full := fmt.Errorf("pod/a: ADD: %w", &cni.Error{Plugin: "mynet", Code: 11, Msg: "no address is free"})
	broken := errors.New("the agent has ended")
	for name, tt := range map[string]struct {
		code int
		err  error
		want string
	}{
		"success":                    {0, nil, ""},
		"no success":                 {0, full, full.Error()},
		"the error that is wanted":   {11, full, ""},
		"another error":              {50, full, "got the code 11, want 50: " + full.Error()},
		"success where an error was": {11, nil, "it succeeded, want an error with code 11"},
		"no error of a plugin":       {11, broken, broken.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := refused(tt.code, tt.err); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEventually(t *testing.T) {
	for _, tt := range []struct {
		within      time.Duration
		fails, want int // how often it fails, and is tried
	}{{0, 9, 1}, {0, 0, 1}, {time.Minute, 2, 3}} {
		tried := 0
		err := eventually(t.Context(), tt.within, func() error {
			if tried++; tried <= tt.fails {
				return errors.New("not yet")
			}
			return nil
		})
		if tried != tt.want || (err == nil) != (tt.want > tt.fails) {
			t.Errorf("within %s: got %d tries and %v, want %d", tt.within, tried, err, tt.want)
		}
	}
}

func TestSuite_exclude_without_a_target(t *testing.T) {
	daemon := &scenario.Scenario{Features: []scenario.Feature{scenario.DaemonRestart}, Steps: []scenario.Step{{Daemon: &scenario.Daemon{}}}}
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
		"IPv6, cloud":        {both, advertise, report.NotApplicable, "the network of the lab's cloud is IPv4 alone"},
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
	if got, want := fmt.Sprint(o.Claims), "[Hairpin DaemonRestart CloudENIs]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(own) != 1 {
		t.Errorf("got %v, want the caller's claims as they were", own)
	}
}
