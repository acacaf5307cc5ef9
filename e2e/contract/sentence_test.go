package contract

import (
	"regexp"
	"slices"
	"testing"
)

// TestSentences wants every sentence to be asked by requirements that exist, or a reason why none asks it, and every
// requirement of the specification to be asked for by a sentence.
func TestSentences(t *testing.T) {
	all, err := Sentences()
	if err != nil {
		t.Fatal(err)
	}
	asked, seen := map[string]bool{}, map[string]bool{}
	levels := []Level{Must, MustNot, Should, ShouldNot, May, Stated}
	for _, s := range all {
		name := s.Section + " " + s.Hash
		switch {
		case !regexp.MustCompile(`^([0-5]|C)(\.\w+)?$`).MatchString(s.Section), len(s.Hash) != 12,
			!slices.Contains(levels, s.Level), !slices.Contains([]string{"plugin", "runtime", "nobody"}, s.Who),
			s.Text == "":
			t.Errorf("%s: got %+v, want a section, a hash, a level, who is bound, and a text", name, s)
		case (len(s.Asked) == 0) == (s.Why == ""):
			t.Errorf("%s: got requirements %v and the reason %q, want one of them", name, s.Asked, s.Why)
		case seen[name]:
			t.Errorf("%s: it is there twice", name)
		}
		seen[name] = true
		for _, id := range s.Asked {
			if asked[id] = true; Find(id) == nil {
				t.Errorf("%s: there is no requirement %s", name, id)
			}
		}
	}
	for _, r := range Requirements() {
		if r.Section != "failure mode" && !asked[r.ID] && unsourced[r.ID] == "" {
			t.Errorf("%s (section %s): no sentence names it", r.ID, r.Section)
		}
	}
}

// unsourced are requirements of the specification that no sentence of Commit demands, with their source.
var unsourced = map[string]string{
	"GC-6":   "containernetworking/cni#1098 added its sentence, and a later merge lost it",
	"RUN-37": "section 3 has it as a step of a procedure, without a word of RFC 2119",
	"RUN-38": "the versions before Commit's have it, and Documentation/spec-upgrades.md sums it up",
}

func TestSentencesOf(t *testing.T) {
	for section, want := range map[string]int{"2.gc": 1, "2.GC": 1, "5": 10, "C": 5, "2": 40} {
		if got, err := SentencesOf(section); err != nil || len(got) < want {
			t.Errorf("%s: got %d sentences, %v, want at least %d", section, len(got), err, want)
		}
	}
	for _, section := range []string{"", "9", "2.G", "2.GC."} {
		if got, err := SentencesOf(section); err == nil {
			t.Errorf("%q: got %d sentences, want an error", section, len(got))
		}
	}
}
