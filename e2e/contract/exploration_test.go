package contract

import (
	"context"
	"errors"
	"testing"

	"github.com/cnitest/cnitest/e2e/report"
)

// A deep run that is stopped says how far it has come, and keeps the failures that it had seen before. What happens
// after that may come from the end itself.
func TestSubject_stopped(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after []string
		deep          bool
		want          report.Outcome
		reason        string
		stopped       string
	}{
		{
			name: "a failure before", before: []string{"it broke"}, after: []string{"signal: killed"}, deep: true,
			want: report.Fail, reason: "it broke (CNI 1.1.0)",
			stopped: "RACE-X of mine was stopped after 3 of 9 schedules, 1 failed",
		},
		{
			name: "one after", after: []string{"signal: killed"}, deep: true,
			want: report.Skipped, reason: "at CNI 1.1.0: the lab ended",
			stopped: "RACE-X of mine was stopped after 2 of 9 schedules, 0 failed",
		},
		{name: "not deep", want: report.Skipped, reason: "at CNI 1.1.0: the lab ended"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			stopped := ""
			s := &Subject{Type: "mine", lab: Lab{Exploration: Exploration{
				Deep: tt.deep, Stopped: func(text string) { stopped = text },
			}}}
			r := &Requirement{ID: "RACE-X", check: func(_ context.Context, trial *trial) error {
				count := trial.newTally("schedules", 9)
				for range 2 {
					count.tells(trial, false)
				}
				for _, text := range tt.before {
					count.tells(trial, true)
					trial.wrong(nil, "%s", text)
				}
				cancel()
				for _, text := range tt.after {
					trial.wrong(nil, "%s", text)
				}
				return errors.New("the lab ended")
			}}
			result := report.Result{Result: report.Pass}
			s.try(ctx, r, []string{"1.1.0"}, &result)
			if result.Result != tt.want || result.Reason != tt.reason || stopped != tt.stopped {
				t.Errorf("got %s: %s, and %q\nwant %s: %s, and %q", result.Result, result.Reason, stopped, tt.want,
					tt.reason, tt.stopped)
			}
		})
	}
}
