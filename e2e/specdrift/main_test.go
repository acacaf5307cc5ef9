package main

import (
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/contract"
)

const document = `# Specification
## Section 2: Protocol
#### ` + "`DEL`" + `: Remove container from network

Plugins **must** foo,
e.g. bar. They are nice. A plugin should (see
below) baz:
- a list without such words
- ` + "`name`" + ` (string): it must not be empty. See section 3.

| code | meaning |
|---|---|
| 7 | The message must name it. |

	This code must not count.
`

func TestExtract(t *testing.T) {
	var got []string
	for _, f := range extract([]byte(document)) {
		if f.normative {
			got = append(got, f.section+": "+f.text)
		}
	}
	want := []string{
		"2.DEL: Plugins must foo, e.g. bar.", "2.DEL: A plugin should (see below) baz:",
		"2.DEL: name (string): it must not be empty.", "2.DEL: The message must name it.",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestHash wants the same hash whatever the line breaks, the emphasis and the punctuation.
func TestHash(t *testing.T) {
	if a, b := hash("Plugins must `foo`, e.g. bar."), hash("plugins MUST foo e.g. bar"); a != b {
		t.Errorf("got %s and %s, want the same", a, b)
	}
	if a, b := hash("Plugins must foo."), hash("Plugins should foo."); a == b {
		t.Errorf("got %s for both", a)
	}
}

func TestDrift(t *testing.T) {
	var known []contract.Sentence
	for _, f := range extract([]byte(document)) {
		if f.normative {
			known = append(known, contract.Sentence{Section: f.section, Hash: f.hash, Text: "in other words"})
		}
	}
	// A sentence of the other document is not missed in this one.
	known = append(known, contract.Sentence{Section: "C.args", Hash: "0"})
	for _, tt := range []struct{ name, from, to, want string }{
		{"the same", "Plugins", "Plugins", "SPEC.md has the sentences of containernetworking/cni at " + contract.Commit + "\n"},
		{"line breaks", "foo,\ne.g.", "foo, e.g.", "SPEC.md has the sentences"},
		{"a sentence more", "They are nice.", "They must be nice.", "new   2.DEL            " + hash("They must be nice.") + " SPEC.md:5: They must be nice.\n"},
		{"a sentence less", "The message must name it.", "", "gone  2.DEL            " + hash("The message must name it.") + " in other words\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			differs := drift(&out, "SPEC.md", []byte(strings.Replace(document, tt.from, tt.to, 1)), known)
			if !strings.HasPrefix(out.String(), tt.want) || differs == strings.HasPrefix(tt.want, "SPEC.md has") {
				t.Errorf("got %v and\n%swant\n%s", differs, out.String(), tt.want)
			}
		})
	}
}
