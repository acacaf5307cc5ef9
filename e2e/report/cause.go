package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Cause is a reason with all failures that have it. One mistake of a plugin makes many scenarios fail.
type Cause struct {
	// Text is the decisive part of the reason, in short.
	Text string
	// Results are the failures, at least one.
	Results []Result
	// Blocks is the number of results that the failures block.
	Blocks int
}

// More says how many further results have the same cause or are blocked by it: " and 3 more, blocks 120"; empty if
// there are none.
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

// causesShown bounds how many causes are shown at the top of a page.
const causesShown = 5

var (
	// named matches the parts of a reason that differ between scenarios: nodes, pods, addresses, links with random
	// names.
	named = regexp.MustCompile(`\b(pod|node|host)/[\w-]+|\bveth\w+|\b[0-9a-fA-F]*[.:][0-9a-fA-F.:]+(/\d+)?`)
	// rest matches the end of a reason of a requirement that fails in several ways.
	rest = regexp.MustCompile(`^and \d+ (more|others?)$`)
	// noted matches the notes at the end of a reason, which say what else is the case: the CNI version, or what was not
	// checked. The code of an error belongs to its message.
	noted = regexp.MustCompile(` \((?:CNI|[a-z]+ (?:is|are) not) [^()]*\)$`)
	// answer matches a plugin's error in a part of a reason, in the two forms in which steps and requirements have it.
	answer = regexp.MustCompile(`\bcode (\d+): (.+)$|\b(?:ADD|DEL|CHECK|GC|STATUS): [\w.-]+: (.+) \(code (\d+)\)$`)
	// leftover matches what is missing or left at the end of a part of a reason.
	leftover = regexp.MustCompile(
		`(?:\bleaves?|with each pod:|\bon node/[\w-]+:) ([-+] (?:first )?\w+ .*?)(?:, and \d+ more)?$`)
	device = regexp.MustCompile(`\bdev [\w.-]+`)
)

// CauseKey returns the same key for reasons with the same cause, in whichever scenario.
func CauseKey(reason string) string {
	parts := reasonParts(noted.ReplaceAllString(reason, ""))
	for _, part := range slices.Backward(parts) {
		if key := failureKey(part); key != "" {
			return named.ReplaceAllString(key, "…")
		}
	}
	_, last := decisive(parts)
	return named.ReplaceAllString(last, "…")
}

// failureKey returns a plugin's own message in a part of a reason, or the first object that it left, without the call
// that failed: many calls fail with one message. It is empty if the part has neither. A verb that succeeds although
// another one fails is a cause of its own.
func failureKey(part string) string {
	if strings.Contains(part, " succeeds ") {
		return ""
	}
	part = noted.ReplaceAllString(part, "")
	if found := answer.FindStringSubmatch(part); found != nil {
		return "code " + found[1] + found[4] + ": " + found[2] + found[3]
	}
	if found := leftover.FindStringSubmatch(part); found != nil {
		return device.ReplaceAllString(found[1], "dev …")
	}
	return ""
}

// Causes groups the failures by cause, which is at the end of a reason, the cause with the most failures first.
func (r *Report) Causes() []Cause {
	var all []Cause
	keys := map[string]int{}
	for _, res := range r.failures() {
		text, _ := decisive(reasonParts(noted.ReplaceAllString(res.Reason, "")))
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

// decisive returns the end of a reason, which names the cause, as far as it can be understood alone.
func decisive(parts []string) (text, last string) {
	for len(parts) > 1 && rest.MatchString(parts[len(parts)-1]) {
		parts = parts[:len(parts)-1]
	}
	at := len(parts) - 1
	line := func() string { first, _, _ := strings.Cut(parts[at], "\n"); return first }
	last = line()
	text = last
	// A short text, such as that of a panic, says little without the text before it.
	const alone = 120
	for at > 0 && len(text) < alone {
		at--
		text = line() + "; " + text
	}
	return text, last
}
