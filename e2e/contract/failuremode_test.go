package contract_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

// TestFailureModes checks that each failure mode which a machine without a cluster can show is covered, or says why
// not, and that covers names only existing ones.
func TestFailureModes(t *testing.T) {
	modes, err := contract.FailureModes()
	if err != nil {
		t.Fatal(err)
	}
	all, err := scenario.Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string][]string{}
	for _, s := range all {
		for _, id := range s.Covers {
			by[id] = append(by[id], s.Name)
		}
	}
	for _, r := range contract.Requirements() {
		for _, id := range r.Covers {
			by[id] = append(by[id], r.ID)
		}
	}
	for _, m := range modes {
		caught := by[m.ID]
		switch {
		case !slices.Contains(m.Backends, "netns"):
		case caught == nil && m.Uncovered == "":
			t.Errorf("%s: nothing catches it, and failure-modes.yaml does not say why: %s", m.ID, m.Symptom)
		case caught != nil && m.Uncovered != "":
			t.Errorf("%s: uncovered says %q, and %s catch it", m.ID, m.Uncovered, strings.Join(caught, ", "))
		}
		delete(by, m.ID)
	}
	for id, names := range by {
		if contract.Find(id) == nil {
			t.Errorf("%s: %s catch it, and there is no such failure mode or requirement", id, strings.Join(names, ", "))
		}
	}
	if got, want := len(modes), 134; got != want {
		t.Errorf("got %d failure modes, want %d", got, want)
	}
}

// TestRequirements keeps the table readable: its texts are sentences, and each requirement has a check or a reason why
// not.
func TestRequirements(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range contract.Requirements() {
		if seen[r.ID] {
			t.Errorf("%s: there are two", r.ID)
		}
		seen[r.ID] = true
		for what, text := range map[string]string{"Text": r.Text, "Why": r.Why, "How": r.How} {
			if !regexp.MustCompile(`^\p{Lu}[^\n]*\.$`).MatchString(text) && !strings.HasPrefix(text, "cniVersion") &&
				!regexp.MustCompile(`^(udev|skel)\b`).MatchString(text) {
				t.Errorf("%s: %s is %q, want a sentence", r.ID, what, text)
			}
		}
		if len(r.Roles) == 0 {
			t.Errorf("%s: speaks of nobody", r.ID)
		}
		if !r.Checked() && r.Unchecked == "" && r.ID != contract.LeavesNothing && r.ID != contract.FirstAttachment {
			t.Errorf("%s: no check, and no reason why not", r.ID)
		}
		if r.Checked() && r.Unchecked != "" {
			t.Errorf("%s: a check, and a reason why there is none", r.ID)
		}
	}
}
