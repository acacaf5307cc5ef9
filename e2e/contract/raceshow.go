package contract

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/contract/schedules"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/report"
)

// columnWidth is the width of one of the two columns of a schedule.
const columnWidth = 72

// columns shows the order of the calls of an encounter, one column for each run. Calls that have nothing in common with
// the other run are only counted, unless they change something.
func (l *raceLane) columns(e *encounter) string {
	var b strings.Builder
	line := func(run int, text string) {
		if run == 1 {
			fmt.Fprintf(&b, "%*s │ %s\n", columnWidth, "", text)
			return
		}
		if runes := []rune(text); len(runes) > columnWidth {
			text = string(runes[:columnWidth-1]) + "…"
		}
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-*s │", columnWidth, text), " "))
	}
	line(0, "A: "+l.who(0))
	line(1, "B: "+l.who(1))
	passed := 0
	for i, event := range e.got.Events {
		run := e.got.Runs[event.Run]
		if event.Kind == fault.Made {
			p := run.Points[event.Point-1]
			common, matters := inCommon(p, e.got.Runs[1-event.Run].Points)
			if !matters && !p.Kill {
				passed++
			}
			if i+1 < len(e.got.Events) && e.got.Events[i+1].Run == event.Run &&
				e.got.Events[i+1].Kind == fault.Made && !matters && !p.Kill {
				continue
			}
			if passed > 0 {
				line(event.Run, fmt.Sprintf("      (%d that touch nothing in common)", passed))
			}
			passed = 0
			if matters || p.Kill {
				line(event.Run, pointLine(p, common))
			}
			continue
		}
		switch event.Kind {
		case fault.Stopped:
			line(event.Run, fmt.Sprintf("   ── stopped before %d %s", event.Point, run.Points[event.Point-1].What))
		case fault.Waits:
			line(event.Run, fmt.Sprintf("   ── waits in %d %s", event.Point, run.Points[event.Point-1].What))
		case fault.Ended:
			how := "with success"
			if run.Call.Failed() {
				how = summary(run.Call)
			}
			line(event.Run, "   ── ends: "+how)
		}
	}
	return b.String()
}

// pointLine describes a call; those that touch something in common with the other run have a star.
func pointLine(p fault.Point, common string) string {
	mark := " "
	if common != "" {
		mark = "*"
	}
	text := fmt.Sprintf(" %s %3d %s", mark, p.Number, p.What)
	if p.Error != "" {
		text += " (" + p.Error + ")"
	}
	return text
}

// inCommon returns what a point has in common with the points of the other run.
func inCommon(p fault.Point, others []fault.Point) (string, bool) {
	for _, q := range others {
		if touch, ok := fault.Conflict(p, q); ok {
			return touch.String(), true
		}
	}
	return "", false
}

// window describes the place of the first stop: the look before it at something that the other run changes.
func (l *raceLane) window(e *encounter) string {
	if len(e.Stops) == 0 {
		return fmt.Sprintf("%s, and after its end %s", l.who(e.First), l.who(1-e.First))
	}
	stop := e.Stops[0]
	run, other := e.got.Runs[stop.Run], e.got.Runs[1-stop.Run]
	if stop.Point > len(run.Points) {
		return ""
	}
	use := run.Points[stop.Point-1]
	where := fmt.Sprintf("%s is stopped before %d %s", l.who(stop.Run), use.Number, use.What)
	if len(e.Stops) > 1 && e.Stops[1].Point <= len(other.Points) {
		second := other.Points[e.Stops[1].Point-1]
		where += fmt.Sprintf(", and %s before %d %s", l.who(1-stop.Run), second.Number, second.What)
	}
	for _, fits := range []func(fault.Touch) bool{
		func(t fault.Touch) bool { return t.Kind != "directory" && slices.ContainsFunc(use.Touches, t.Same) },
		func(t fault.Touch) bool { return t.Kind != "directory" },
		func(fault.Touch) bool { return true },
	} {
		for _, look := range slices.Backward(run.Points[:stop.Point-1]) {
			for _, touch := range look.Touches {
				i := slices.IndexFunc(other.Points, func(p fault.Point) bool { return schedules.Writes(p, touch) })
				if touch.Kind == "lock" || i < 0 || !fits(touch) {
					continue
				}
				return fmt.Sprintf("%s, after it looked at %s (%d %s); then %s makes %d %s", where, touch, look.Number,
					look.What, l.who(1-stop.Run), other.Points[i].Number, other.Points[i].What)
			}
		}
	}
	return where
}

// report reports what is wrong after a schedule.
func (l *raceLane) report(e *encounter) {
	token := l.trial.token(l.code(e.Schedule))
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s\n\n%s\n", l.describe(), l.window(e), strings.Join(e.wrongs, "\n"))
	const star = "A star marks a call that touches what the other one touches, too, and one of them changes."
	fmt.Fprintf(&b, "\n%s\n\n%s", star, l.columns(e))
	fmt.Fprintf(&b, "\n%s", token.again())
	for i, run := range e.got.Runs {
		fmt.Fprintf(&b, "\n%s:\n%s\n", l.who(i), run.Call.Transcript())
	}
	for _, c := range e.later {
		fmt.Fprintf(&b, "\nthen %s:\n%s\n", c.Verb, c.Transcript())
	}
	if len(e.left) > 0 {
		fmt.Fprintf(&b, "\nwhat stayed behind:\n%s\n", lines(e.left))
	}
	l.trial.deviation([]report.Evidence{{Title: token.String(), Text: b.String()}},
		token.named(fmt.Sprintf("%s: %s: %s", l.describe(), l.window(e), e.wrongs[0])))
}
