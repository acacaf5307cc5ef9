package e2e_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// failure says whether a result is the failure that a test wants; nil wants none.
type failure func(report.Result) bool

// failing wants a requirement to fail with words in what it says.
func failing(id string, words ...string) failure {
	return func(r report.Result) bool {
		return r.ID == id && r.Result == report.Fail && !slices.ContainsFunc(words, func(word string) bool {
			return !strings.Contains(allOf(r), word)
		})
	}
}

// labelled runs the requirements with a label on the last plugin of a chain, and returns the results by requirement.
// The wanted failure stands whatever the machine does meanwhile; others run again on a busy machine.
func labelled(
	t *testing.T, label string, selection e2e.Selection, wanted failure, chain ...string,
) map[string]report.Result {
	t.Helper()
	return ofLabel(t, label, wanted, e2e.Options{
		Conflist: writeConflist(t, "", chain...), Plugins: underTest(chain), Select: selection,
	})
}

// ofLabel does the same with any options, on the plugin under test.
func ofLabel(t *testing.T, label string, wanted failure, options e2e.Options) map[string]report.Result {
	t.Helper()
	suite := newSuite(t, options)
	units, err := suite.Matching(label)
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]report.Result{}
	for _, u := range units {
		if slices.Contains(options.Plugins, u.Plugin) {
			results[u.ID] = suite.RunWanting(t.Context(), u, wanted)
		}
	}
	if _, err := suite.Finish(); err != nil {
		t.Fatal(err)
	}
	return results
}

// replays checks that the token in the reason of a failure repeats it, and runs nothing else.
func replays(t *testing.T, got report.Result, run func(e2e.Selection) map[string]report.Result) {
	t.Helper()
	text := regexp.MustCompile(`--replay (\S+)\)`).FindStringSubmatch(got.Reason)
	if text == nil {
		t.Fatalf("got %s, want a token in it", got.Reason)
	}
	token, err := contract.ParseToken(text[1])
	if err != nil {
		t.Fatal(err)
	}
	again := run(e2e.Selection{Replay: token})
	if r := again[got.ID]; len(again) != 1 || r.Result != report.Fail || !strings.Contains(r.Reason, text[1]) {
		t.Errorf("%s: got %v, want the same failure", text[1], again)
	}
}

// eachFound checks that a broken plugin fails each requirement of a kind.
func eachFound(t *testing.T, found []string, kind contract.Cases) {
	t.Helper()
	for _, r := range contract.Requirements() {
		if r.Cases == kind && !slices.Contains(found, r.ID) {
			t.Errorf("%s: no broken plugin fails it", r.ID)
		}
	}
}
