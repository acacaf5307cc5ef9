package strictyaml

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// These are the messages of the library that are not about syntax, as of go.yaml.in/yaml v3.0.
var (
	anchorForm    = regexp.MustCompile(`^yaml: unknown anchor '(.*)' referenced$`)
	unknownForm   = regexp.MustCompile(`(?s)^field (.*) not found in type \w+\.(\w+)$`)
	duplicateForm = regexp.MustCompile(`(?s)^mapping key (".*") already defined at line ([0-9]+)$`)
	typeForm      = regexp.MustCompile("(?s)^cannot unmarshal (!!\\w+)(?: `(.*)`)? into (.+)$")
)

func (k Kind) libraryProblems(data []byte, err error, into any) []Problem {
	var list *yaml.TypeError
	if !errors.As(err, &list) {
		return []Problem{Syntax(data, err)}
	}
	var problems []Problem
	for _, text := range list.Errors {
		problems = append(problems, k.libraryProblem(text, reflect.TypeOf(into)))
	}
	return problems
}

func (k Kind) libraryProblem(text string, into reflect.Type) Problem {
	m := syntaxForm.FindStringSubmatch(text)
	return Problem{lineNumber(m[1]), k.libraryText(m[2], into)}
}

func lineNumber(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// libraryText words a message of the library for the reader of a file that is read into a type.
func (k Kind) libraryText(text string, into reflect.Type) string {
	if m := unknownForm.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("unknown field %q in %s; %s", m[1], k.typeWord(m[2]), Meant(m[1], fieldsOf(into, m[2])))
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
		word, example := goType(m[3], into)
		return fmt.Sprintf("want %s, got %s; %s", word, got, example)
	}
	return text
}

// typeWord returns the word for a type: probe for Probe, listen for Listen.
func (k Kind) typeWord(name string) string {
	if word, ok := k.Words[name]; ok {
		return word
	}
	return strings.ToLower(name)
}

// goType returns what a field of a Go type takes, in a reader's words, and an example.
func goType(name string, into reflect.Type) (word, example string) {
	_, local, named := strings.Cut(name, ".")
	switch {
	case strings.HasPrefix(name, "[]"):
		return "a list", "write it in brackets, or each item behind a hyphen on a line of its own"
	case strings.HasPrefix(name, "map["), named && fieldsOf(into, local) != nil:
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

// fieldsOf returns the field names of the struct called name, which is t or a type somewhere below it.
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
		case tag == "" || tag == "-":
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
