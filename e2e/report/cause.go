package report

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// cause is a reason with all failures that have it. A plugin that gets one thing wrong fails many scenarios by it.
type cause struct {
	Text    string
	Results []Result
}

// causesShown bounds how many causes are told at the top of a page.
const causesShown = 5

var (
	// named are the parts of a reason that are others in each scenario: nodes, pods, addresses, links with random names.
	named = regexp.MustCompile(`\b(pod|node|host)/[\w-]+|\bveth\w+|\b[0-9a-fA-F]*[.:][0-9a-fA-F.:]+(/\d+)?`)
	// rest is how a reason ends where a requirement fails in several ways.
	rest = regexp.MustCompile(`^and \d+ (more|others?)$`)
)

// causes groups the failures by what decided them, which a reason says last, the one with the most failures first.
func (r *Report) causes() []cause {
	var all []cause
	keys := map[string]int{}
	for _, res := range r.failures() {
		text, last := decisive(res.Reason)
		key := named.ReplaceAllString(last, "…")
		at, known := keys[key]
		if !known {
			at = len(all)
			keys[key] = at
			all = append(all, cause{Text: text})
		}
		all[at].Results = append(all[at].Results, res)
	}
	slices.SortStableFunc(all, func(a, b cause) int { return cmp.Compare(len(b.Results), len(a.Results)) })
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
