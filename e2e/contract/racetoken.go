package contract

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// Token names one schedule of two calls of a plugin: "route:ADD-DEL:pods-cold:A14.B3" is the ADD (A) that is stopped
// before its 14th point on a node without other pods, and the DEL (B) of another pod that is stopped before its third.
// Without numbers it is one call (A or B) and then the other. "host-local:POWER-ADD:cache:7:empty@/var/lib/x" is a
// power cut after the seventh call on the disk with an empty file, found by a runtime with its cache.
type Token struct {
	plugin string
	setting
	schedule fault.Schedule
	// requirement and blackout are those of a power cut; empty for a schedule.
	requirement, blackout string
}

// ParseToken returns the token with a text.
func ParseToken(text string) (*Token, error) {
	wrong := func(why string) error {
		return fmt.Errorf("token %q: %s; want one that a report shows, like route:ADD-DEL:pods-cold:A14", text, why)
	}
	if plugin, cut, ok := strings.Cut(text, ":POWER-"); ok && plugin != "" {
		verb, blackout, ok := strings.Cut(cut, ":")
		t := &Token{plugin: plugin, requirement: "POWER-" + verb, blackout: blackout}
		if r := Find(t.requirement); r == nil || !ok {
			return nil, wrong("no requirement is " + t.requirement)
		}
		return t, nil
	}
	parts := strings.Split(text, ":")
	if len(parts) != 4 || parts[0] == "" {
		return nil, wrong("it has not four parts")
	}
	t := &Token{plugin: parts[0]}
	first, second, _ := strings.Cut(parts[1], "-")
	t.verbs = [2]cni.Verb{cni.Verb(first), cni.Verb(second)}
	if !slices.ContainsFunc(racing(), func(r Requirement) bool { return r.ID == t.Requirement() }) {
		return nil, wrong("no requirement is about the verbs " + parts[1])
	}
	pairs, node, _ := strings.Cut(parts[2], "-")
	t.pairs, t.cold = pairing(pairs), node == "cold"
	if !slices.Contains([]pairing{twoPods, twoInterfaces, twoNetworks}, t.pairs) || node != "cold" && node != "warm" {
		return nil, wrong("no node is " + parts[2])
	}
	if parts[3] == "A" || parts[3] == "B" {
		t.schedule.First = int(parts[3][0] - 'A')
		return t, nil
	}
	for i, part := range strings.Split(parts[3], ".") {
		stop := fault.Stop{}
		var run byte
		if n, err := fmt.Sscanf(part, "%c%d", &run, &stop.Point); n != 2 || err != nil || run != 'A' && run != 'B' {
			return nil, wrong(part + " is no stop")
		}
		stop.Run = int(run - 'A')
		if i == 0 {
			t.schedule.First = stop.Run
		}
		t.schedule.Stops = append(t.schedule.Stops, stop)
	}
	if back, ok := t.String(), t.schedule.Stops[0].Point > 0; back != text || !ok {
		return nil, wrong("its stops are not written as a report writes them")
	}
	return t, nil
}

// Requirement returns the id of the requirement that the schedule or power cut is about, Plugin the type of its plugin.
func (t *Token) Requirement() string {
	if t.requirement != "" {
		return t.requirement
	}
	return fmt.Sprintf("RACE-%s-%s", t.verbs[0], t.verbs[1])
}

// Plugin returns the type of the plugin.
func (t *Token) Plugin() string { return t.plugin }

// String returns the token's text.
func (t *Token) String() string {
	if t.requirement != "" {
		return fmt.Sprintf("%s:%s:%s", t.plugin, t.requirement, t.blackout)
	}
	stops := []string{}
	if len(t.schedule.Stops) == 0 {
		stops = append(stops, string(rune('A'+t.schedule.First)))
	}
	for _, s := range t.schedule.Stops {
		stops = append(stops, fmt.Sprintf("%c%d", 'A'+s.Run, s.Point))
	}
	return fmt.Sprintf("%s:%s:%s", t.plugin, t.setting, strings.Join(stops, "."))
}
