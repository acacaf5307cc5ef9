// Package strictyaml reads the YAML files of this suite: each is one plain mapping, and every mistake in it is reported
// with its line and a way to mend it.
//
// It is not a general YAML reader: anchors, tags, merges and several documents are mistakes. Its callers judge what the
// values mean.
//
// Run its tests: go test ./e2e/internal/strictyaml ./e2e/scenario
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Kind describes one kind of file.
type Kind struct {
	// Noun is the content of the file, e.g. "scenario".
	Noun string
	// Start is the first line of such a file, e.g. "apiVersion: cnitest/v1alpha1".
	Start string
	// Words has the word for a type in messages, by the type's name, if the name in lower case would mislead.
	Words map[string]string
}

// Problem is one mistake and how to mend it, at a line that counts from 1.
type Problem struct {
	Line int
	Text string
}

// Join returns an error with all problems, each as "file:line: text", in the order of the lines; nil if there are none.
func Join(file string, problems []Problem) error {
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = fmt.Errorf("%s:%d: %s", file, p.Line, p.Text)
	}
	return errors.Join(errs...)
}

// Decode fills the struct that into points to, all of whose fields have a yaml tag. Its problems are mistakes of form:
// syntax, unknown fields, values of the wrong type. If there are any, the meaning is not worth checking.
func (k Kind) Decode(data []byte, into any) (Lines, []Problem) {
	root, problems := k.document(data)
	if problems != nil {
		return nil, problems
	}
	problems = plainness(root)
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		problems = append(problems, k.libraryProblems(data, err, into)...)
	}
	if problems != nil {
		return nil, problems
	}
	lines := Lines{}
	lines.add("", root)
	return lines, nil
}

// document returns the mapping that must be the only document of data.
func (k Kind) document(data []byte) (*yaml.Node, []Problem) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, []Problem{{1, "the file is empty; start it with " + k.Start}}
	}
	if m := anchorForm.FindStringSubmatch(fmt.Sprint(err)); m != nil {
		before, _, _ := bytes.Cut(data, []byte("*"+m[1]))
		return nil,
			[]Problem{{
				1 + bytes.Count(before, []byte("\n")),
				fmt.Sprintf("*%s repeats a part of the file that has no such name; write it out", m[1]),
			}}
	}
	if err != nil {
		return nil, k.libraryProblems(data, err, nil)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, []Problem{
			{second.Line, "a second document starts here; put each " + k.Noun + " in a file of its own"},
		}
	case !errors.Is(err, io.EOF):
		return nil, k.libraryProblems(data, err, nil)
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, []Problem{
			{root.Line, fmt.Sprintf("want a mapping, got %s; start the file with %s", kindWord(root.Kind), k.Start)},
		}
	}
	return root, nil
}

// plainness finds what YAML has and these files must not have: anchors, tags, and keys without a value.
func plainness(n *yaml.Node) []Problem {
	var problems []Problem
	report := func(line int, format string, args ...any) {
		problems = append(problems, Problem{line, fmt.Sprintf(format, args...)})
	}
	if n.Kind == yaml.AliasNode {
		report(n.Line, "*%s repeats another part of the file; write it out", n.Value)
		return problems
	}
	if n.Anchor != "" {
		report(n.Line, "&%s names a part of the file; remove the name", n.Anchor)
	}
	if n.Style&yaml.TaggedStyle != 0 {
		report(n.Line, "%s says what type a value has; remove it", n.Tag)
	}
	for i, child := range n.Content {
		isKey := n.Kind == yaml.MappingNode && i%2 == 0
		switch tag := child.ShortTag(); {
		case isKey && tag == "!!merge":
			report(child.Line, "<< merges another mapping; write its fields out")
		case tag != "!!null":
		case isKey || n.Kind == yaml.SequenceNode:
			report(child.Line, "nothing stands here; write something or remove the line")
		default:
			key := n.Content[i-1]
			report(key.Line, "%s has no value; give it one ({} if it has no options) or remove it", key.Value)
		}
		problems = append(problems, plainness(child)...)
	}
	return problems
}

// Mistake returns an error for UnmarshalYAML, after which the decoder goes on and collects all mistakes of the file.
func Mistake(n *yaml.Node, want, mend string) error {
	got := strconv.Quote(n.Value)
	if n.Kind != yaml.ScalarNode {
		got = kindWord(n.Kind)
	}
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %s, got %s; %s", n.Line, want, got, mend)}}
}
