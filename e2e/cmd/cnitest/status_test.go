package main

import (
	"errors"
	"testing"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// TestStatus checks that a case which could not be replayed is no success, although it says nothing about the plugin.
func TestStatus(t *testing.T) {
	token, err := contract.ParseToken("route:RACE-ADD-DEL:pods-cold:A14")
	if err != nil {
		t.Fatal(err)
	}
	strict := runFlags{outputFlags: outputFlags{strict: true}}
	replay := runFlags{selectFlags: selectFlags{raceFlags: raceFlags{replayed: token}}}
	for _, tt := range []struct {
		name    string
		flags   runFlags
		verdict report.Verdict
		want    int
	}{
		{"partial", runFlags{}, report.Partial, 0},
		{"partial with --strict", strict, report.Partial, exitNotConformant},
		{"partial with --replay", replay, report.Partial, exitNotConformant},
		{"conformant with --replay", replay, report.Conformant, 0},
		{"not conformant", runFlags{}, report.NotConformant, exitNotConformant},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := 0
			var end *exitError
			if errors.As(tt.flags.status(&report.Report{Verdict: tt.verdict}), &end) {
				got = end.status
			}
			if got != tt.want {
				t.Errorf("got status %d, want %d", got, tt.want)
			}
		})
	}
}
