package e2e

import (
	"context"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// RunWanting runs a unit like RunUnit, but not a second time if the first result is the wanted one: tests break plugins
// on purpose beside other tests, and whoever is sure to fail need not fail twice because the machine is busy. If wanted
// is nil, it is RunUnit.
func (s *Suite) RunWanting(ctx context.Context, u *Unit, wanted func(report.Result) bool) report.Result {
	return s.runUnit(ctx, u, func(a *attempt) bool {
		return (wanted == nil || !wanted(a.result)) && s.doubts(a)
	})
}

// RunScenarioWanting does the same with a scenario.
func (s *Suite) RunScenarioWanting(
	ctx context.Context, sc *scenario.Scenario, wanted func(report.Result) bool,
) report.Result {
	return s.RunWanting(ctx, &Unit{ID: sc.Name, scenario: sc}, wanted)
}
