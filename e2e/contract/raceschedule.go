package contract

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// parseSchedule returns the setting and the schedule of a token's case: "pods-cold:A14.B3" is the first call (A) that
// is stopped before its 14th point on a node without other pods, and the second (B) that is stopped before its third.
// Without numbers it is one call (A or B) and then the other.
func parseSchedule(requirement, text string) (s setting, schedule fault.Schedule, err error) {
	s.verbs, _ = racingVerbs(requirement)
	place, stops, _ := strings.Cut(text, ":")
	pairs, node, _ := strings.Cut(place, "-")
	s.pairs, s.cold = pairing(pairs), node == "cold"
	if !slices.Contains([]pairing{twoPods, twoInterfaces, twoNetworks}, s.pairs) || node != "cold" && node != "warm" {
		return s, schedule, fmt.Errorf("no node is %s", place)
	}
	if stops == "A" || stops == "B" {
		schedule.First = int(stops[0] - 'A')
		return s, schedule, nil
	}
	for i, part := range strings.Split(stops, ".") {
		stop := fault.Stop{}
		var run byte
		if n, err := fmt.Sscanf(part, "%c%d", &run, &stop.Point); n != 2 || err != nil || run != 'A' && run != 'B' {
			return s, schedule, fmt.Errorf("%q is no stop", part)
		}
		stop.Run = int(run - 'A')
		if i == 0 {
			schedule.First = stop.Run
		}
		schedule.Stops = append(schedule.Stops, stop)
	}
	if s.code(schedule) != text || schedule.Stops[0].Point < 1 {
		return s, schedule, fmt.Errorf("%s: its stops are not written as a report writes them", text)
	}
	return s, schedule, nil
}

// racingVerbs returns the verbs of a requirement about two calls that take turns; ok is false for others.
func racingVerbs(requirement string) (verbs [2]cni.Verb, ok bool) {
	parts := strings.Split(requirement, "-")
	if len(parts) != 3 || parts[0] != "RACE" {
		return verbs, false
	}
	return [2]cni.Verb{cni.Verb(parts[1]), cni.Verb(parts[2])}, true
}

// code names a schedule in a token.
func (s setting) code(schedule fault.Schedule) string {
	node := "warm"
	if s.cold {
		node = "cold"
	}
	var stops []string
	if len(schedule.Stops) == 0 {
		stops = append(stops, string(rune('A'+schedule.First)))
	}
	for _, stop := range schedule.Stops {
		stops = append(stops, fmt.Sprintf("%c%d", 'A'+stop.Run, stop.Point))
	}
	return fmt.Sprintf("%s-%s:%s", s.pairs, node, strings.Join(stops, "."))
}
