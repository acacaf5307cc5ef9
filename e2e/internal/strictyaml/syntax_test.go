package strictyaml

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestSyntax gives the library what is no YAML. The mistakes that it knows only in the words of its own parser keep
// these words.
func TestSyntax(t *testing.T) {
	const otherwise = "; mend the YAML: look at indentation, colons, quotes and brackets here and just above"
	for _, tt := range []struct {
		name, text string
		want       Problem
	}{
		{"a tab below a key", "a: 1\nb:\n\tc: 2\n", Problem{3, "a tab indents this line; write blanks, YAML takes nothing else"}},
		{"a tab behind blanks", "a: 1\nb:\n  \tc: 2\n  d: 3\n", Problem{3, "a tab indents this line; write blanks, YAML takes nothing else"}},
		{"a tab in a list", "a:\n\t- 1\n", Problem{2, "a tab indents this line; write blanks, YAML takes nothing else"}},
		{"Latin-1", "a: 1\nb: f\xfcr\n", Problem{2, "the file is not UTF-8; save it as UTF-8"}},
		{"UTF-16 without a mark", "a\x00:\x00 \x001\x00", Problem{1, "there is a byte 0, as in a file of UTF-16; save it as UTF-8"}},
		{"a control character", "a: 1\nb: x\x01y\n", Problem{2, "a character here cannot be seen, and YAML takes none; remove it"}},
		{"an at sign", "a: 1\nb: @x\n", Problem{2, "a value that starts with @ has no quotes; put them around it"}},
		{"a back quote in a list", "a: [1, `x`]\n", Problem{1, "a value that starts with ` has no quotes; put them around it"}},
		{"a bracket", "a: 1\nb: [1\nc: 2\n", Problem{2, "did not find expected ',' or ']'" + otherwise}},
		{"two colons", "a: 1\nb: x: y\n", Problem{2, "mapping values are not allowed in this context" + otherwise}},
		{"a key twice", "a: 1\nb: {c: 1,\n  d: 2, c: 3}\n", Problem{3, `"c" stands already in line 2; remove one of the two`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var values any
			err := yaml.Unmarshal([]byte(tt.text), &values)
			if err == nil {
				t.Fatal("the library takes it")
			}
			if got := Syntax([]byte(tt.text), err); got != tt.want {
				t.Errorf("got %+v, want %+v (%v)", got, tt.want, err)
			}
		})
	}
}
