package e2e_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// TestKnownUpstream shows each deviation that is attributed to the library on a plugin that only calls it.
func TestKnownUpstream(t *testing.T) {
	run := ask(t, []string{`{"type": "nothing"}`}, "nothing", nil)
	// other requirements examine the calls of these
	asked := []string{"VER-5", "F06"}
	for _, k := range contract.KnownUpstream() {
		asked = append(asked, k.Requirement)
	}
	results := run(func(r *contract.Requirement) bool { return slices.Contains(asked, r.ID) })
	for _, k := range contract.KnownUpstream() {
		t.Run(k.Requirement, func(t *testing.T) {
			got := results[k.Requirement]
			deviation, laid := strings.CutSuffix(got.Reason, ": "+k.Reason)
			if got.Result != report.KnownUpstream || !laid || !k.Pattern.MatchString(deviation) {
				t.Errorf("got %s: %s\nwant known-upstream: … %s …: %s", got.Result, got.Reason, k.Pattern, k.Reason)
			}
		})
	}
}
