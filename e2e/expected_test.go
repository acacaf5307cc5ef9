package e2e_test

import (
	"cmp"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
	"github.com/cnitest/cnitest/e2e/report"
)

// expected is a result of a scenario.
type expected struct {
	result report.Outcome
	plugin string // empty means report.Chain
	reason string // a part of the reason
	// oneOf are programs of the machine, one of which is needed. Without any the scenario is skipped.
	oneOf []string
	// without is the reason for which it is skipped; empty means that portmap calls the program.
	without string
	// link is a kind of link that the kernel must have. Without it the scenario is skipped.
	link string
}

func pass() expected              { return expected{result: report.Pass} }
func fail(reason string) expected { return expected{result: report.Fail, reason: reason} }
func failOf(plugin, reason string) expected {
	return expected{result: report.Fail, plugin: plugin, reason: reason}
}

func known(plugin, reason string) expected {
	return expected{result: report.KnownUpstream, plugin: plugin, reason: reason}
}

func (want expected) compare(t *testing.T, got report.Result) {
	t.Helper()
	if want = want.here(); !want.matches(got) {
		t.Errorf("got %s of %s: %s\nwant %s of %s: … %s …", got.Result, got.Plugin, got.Reason, want.result,
			want.plugin, want.reason)
	}
}

// here returns what is expected on this machine.
func (want expected) here() expected {
	want.plugin = cmp.Or(want.plugin, report.Chain)
	if missesProgram(want.oneOf) {
		want.result = report.Skipped
		want.reason = cmp.Or(want.without, "the program "+want.oneOf[0]+" is not installed, and portmap calls it")
	}
	if missesLink(want.link) && !kerneltest.Wanted(want.link) {
		want.result, want.reason = report.Skipped, "this kernel lacks links of the kind "+want.link
	}
	return want
}

func (want expected) matches(got report.Result) bool {
	want = want.here()
	return got.Result == want.result && got.Plugin == want.plugin && strings.Contains(got.Reason, want.reason)
}

// missesProgram reports whether the machine has none of the programs.
func missesProgram(oneOf []string) bool {
	installed := func(program string) bool {
		_, err := exec.LookPath(program)
		return err == nil
	}
	return len(oneOf) > 0 && !slices.ContainsFunc(oneOf, installed)
}

// missesLink reports whether this kernel has no links of a kind; of no kind misses none.
func missesLink(kind string) bool {
	if kind == "" {
		return false
	}
	var missing []string
	err := (&agent.Server{}).LinkKinds([]string{kind}, &missing)
	return err == nil && len(missing) > 0
}
