package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Cause is a reason with all failures that have it. A plugin that gets one thing wrong fails many scenarios by it.
type Cause struct {
	// Text is what decided, in short.
	Text string
	// Results are the failures, at least one.
	Results []Result
	// Blocks is how many results wait for the failures.
	Blocks int
}

// More says how many results have or wait for the same cause as the first: " and 3 more, blocks 120"; empty for the
// first alone.
func (c Cause) More() string {
	text := ""
	if n := len(c.Results); n > 1 {
		text = fmt.Sprintf(" and %d more", n-1)
	}
	if c.Blocks > 0 {
		text += fmt.Sprintf(" (blocks %d others)", c.Blocks)
	}
	return text
}

// causesShown bounds how many causes are told at the top of a page.
const causesShown = 5

var (
	// named are the parts of a reason that are others in each scenario: nodes, pods, addresses, links with random
	// names.
	named = regexp.MustCompile(`\b(pod|node|host)/[\w-]+|\bveth\w+|\b[0-9a-fA-F]*[.:][0-9a-fA-F.:]+(/\d+)?`)
	// rest is how a reason ends where a requirement fails in several ways.
	rest = regexp.MustCompile(`^and \d+ (more|others?)$`)
)

// CauseKey is equal for reasons that say that the same decided, in whichever scenario.
func CauseKey(reason string) string {
	_, last := decisive(reason)
	return named.ReplaceAllString(last, "…")
}

// Causes groups the failures by what decided them, which a reason says last, the one with the most failures first.
func (r *Report) Causes() []Cause {
	var all []Cause
	keys := map[string]int{}
	for _, res := range r.failures() {
		text, _ := decisive(res.Reason)
		key := CauseKey(res.Reason)
		at, known := keys[key]
		if !known {
			at = len(all)
			keys[key] = at
			all = append(all, Cause{Text: text})
		}
		all[at].Results = append(all[at].Results, res)
		for _, other := range r.Results {
			if other.Result == Blocked && other.BlockedBy == res.ID {
				all[at].Blocks++
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Cause) int { return cmp.Compare(len(b.Results), len(a.Results)) })
	return all
}

// decisive is the end of a reason, which says what decided, as far as it can stand alone; and of that the last part.
func decisive(reason string) (text, last string) {
	parts := reasonParts(reason)
	for len(parts) > 1 && rest.MatchString(parts[len(parts)-1]) {
		parts = parts[:len(parts)-1]
	}
	at := len(parts) - 1
	line := func() string { first, _, _ := strings.Cut(parts[at], "\n"); return first }
	last = line()
	text = last
	// A short one, such as the text of a panic, says little without what stands before it.
	const alone = 120
	for at > 0 && len(text) < alone {
		at--
		text = line() + "; " + text
	}
	return text, last
}
