package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Load reads every *.yaml file at the root of files, in the order of the scenarios' names. Its error joins those of all files;
// it comes with the scenarios that are right.
func Load(files fs.FS) ([]*Scenario, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("scenarios: list files: %w", err)
	}
	var all []*Scenario
	var errs []error
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("scenarios: %w", err))
			continue
		}
		s, err := Parse(name, data)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Scenario) int { return strings.Compare(a.Name, b.Name) })
	return all, errors.Join(errs...)
}

// Parse reads and validates one scenario. file is used in messages, and its base name must be the scenario's name.
//
// Its error joins every mistake as "file:line: what; how to mend", in the order of the lines. Mistakes of form (syntax,
// unknown fields, values of the wrong type) hide those of meaning, which would only follow from them.
func Parse(file string, data []byte) (*Scenario, error) {
	root, problems := parseDocument(data)
	if problems != nil {
		return nil, join(file, problems)
	}
	s := &Scenario{File: file, Source: data}
	problems = append(plainness(root), decode(data, s)...)
	if problems != nil {
		return nil, join(file, problems)
	}
	lines := lineIndex{}
	lines.add("", root)
	for i := range s.Steps {
		s.Steps[i].Line = lines.of(fmt.Sprintf("steps[%d]", i))
	}
	if problems := validate(s, path.Base(file), lines); problems != nil {
		return nil, join(file, problems)
	}
	return s, nil
}

// problem is one mistake and how to mend it, at a line that counts from 1.
type problem struct {
	line int
	text string
}

func join(file string, problems []problem) error {
	slices.SortStableFunc(problems, func(a, b problem) int { return a.line - b.line })
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = fmt.Errorf("%s:%d: %s", file, p.line, p.text)
	}
	return errors.Join(errs...)
}

// parseDocument returns the mapping that the only document of data must be.
func parseDocument(data []byte) (*yaml.Node, []problem) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, []problem{{1, "the file is empty; start it with apiVersion: " + APIVersion}}
	}
	if m := anchorForm.FindStringSubmatch(fmt.Sprint(err)); m != nil {
		before, _, _ := bytes.Cut(data, []byte("*"+m[1]))
		return nil, []problem{{1 + bytes.Count(before, []byte("\n")), fmt.Sprintf("*%s repeats a part of the file that has no such name; write it out", m[1])}}
	}
	if err != nil {
		return nil, libraryProblems(err)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, []problem{{second.Line, "a second document starts here; put each scenario in a file of its own"}}
	case !errors.Is(err, io.EOF):
		return nil, libraryProblems(err)
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, []problem{{root.Line, fmt.Sprintf("want a mapping, got %s; start the file with apiVersion: %s", kindWord(root.Kind), APIVersion)}}
	}
	return root, nil
}

// plainness finds what YAML has and scenarios do without: names for parts of a file, tags, and keys that lead to nothing.
func plainness(n *yaml.Node) []problem {
	var problems []problem
	report := func(line int, format string, args ...any) {
		problems = append(problems, problem{line, fmt.Sprintf(format, args...)})
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

func decode(data []byte, s *Scenario) []problem {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(s); err != nil {
		return libraryProblems(err)
	}
	return nil
}

// What the library says, as of go.yaml.in/yaml v3.0: "yaml: line 3: did not find …" for syntax, and lists of the others.
var (
	syntaxForm = regexp.MustCompile(`(?s)^(?:yaml: )?(?:line ([0-9]+): )?(.*)$`)
	// The library's parser, unlike its scanner, counts lines from 0.
	parserForm    = regexp.MustCompile(`^did not find expected (<|node content|'-' indicator|key|',' or)`)
	anchorForm    = regexp.MustCompile(`^yaml: unknown anchor '(.*)' referenced$`)
	unknownForm   = regexp.MustCompile(`(?s)^field (.*) not found in type scenario\.(\w+)$`)
	duplicateForm = regexp.MustCompile(`(?s)^mapping key (".*") already defined at line ([0-9]+)$`)
	typeForm      = regexp.MustCompile("(?s)^cannot unmarshal (!!\\w+)(?: `(.*)`)? into (.+)$")
)

func libraryProblems(err error) []problem {
	var list *yaml.TypeError
	if !errors.As(err, &list) {
		m := syntaxForm.FindStringSubmatch(err.Error())
		line := lineNumber(m[1])
		if m[1] != "" && parserForm.MatchString(m[2]) {
			line++
		}
		return []problem{{line, m[2] + "; mend the YAML: look at indentation, colons, quotes and brackets here and just above"}}
	}
	var problems []problem
	for _, text := range list.Errors {
		m := syntaxForm.FindStringSubmatch(text)
		problems = append(problems, problem{lineNumber(m[1]), libraryText(m[2])})
	}
	return problems
}

func lineNumber(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 1
	}
	return n
}

func libraryText(text string) string {
	if m := unknownForm.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("unknown field %q in %s; %s", m[1], typeWord(m[2]), meant(m[1], fieldsOf(reflect.TypeFor[Scenario](), m[2])))
	}
	if m := duplicateForm.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s stands already in line %s; remove one of the two", m[1], m[2])
	}
	if m := typeForm.FindStringSubmatch(text); m != nil {
		got := strconv.Quote(m[2])
		switch m[1] {
		case "!!map":
			got = kindWord(yaml.MappingNode)
		case "!!seq":
			got = kindWord(yaml.SequenceNode)
		}
		word, example := goType(m[3])
		return fmt.Sprintf("want %s, got %s; %s", word, got, example)
	}
	return text
}

// typeWord is what a file calls a type of this package: probe for Probe, listen for Listen.
func typeWord(name string) string {
	if name == "HostPort" {
		return "hostPorts"
	}
	return strings.ToLower(name)
}

// goType says in a reader's words what a field of a Go type takes, and how to write it.
func goType(name string) (word, example string) {
	switch {
	case strings.HasPrefix(name, "[]"):
		return "a list", "write it in brackets, or each item behind a hyphen on a line of its own"
	case strings.HasPrefix(name, "map["), strings.HasPrefix(name, "scenario.") && name != "scenario.Feature":
		return "a mapping", "write it in braces, e.g. {name: a}"
	case name == "uint16":
		return "a number from 1 to 65535", "write a port, e.g. 8080"
	case name == "int":
		return "a whole number", "write one, e.g. 2"
	case name == "bool":
		return "true or false", "write one of the two"
	}
	return "text", "write a single value"
}

func kindWord(kind yaml.Kind) string {
	switch kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	return "a single value"
}

// fieldsOf are the field names of the struct called name, which is t or somewhere below it.
func fieldsOf(t reflect.Type, name string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var fields []string
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("yaml")
		switch {
		case tag == "-":
		case t.Name() == name:
			fields = append(fields, tag)
		default:
			if found := fieldsOf(t.Field(i).Type, name); found != nil {
				return found
			}
		}
	}
	return fields
}
