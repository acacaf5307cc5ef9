package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// These are the messages of the library for syntax, as of go.yaml.in/yaml v3.0: "yaml: line 3: did not find …".
var (
	syntaxForm = regexp.MustCompile(`(?s)^(?:yaml: )?(?:line ([0-9]+): )?(.*)$`)
	// The library's parser, unlike its scanner, counts lines from 0.
	parserForm = regexp.MustCompile(`^did not find expected (<|node content|'-' indicator|key|',' or)`)
	// Its reader, which comes before both, knows no lines.
	readerForm   = regexp.MustCompile(`^(invalid|incomplete|unexpected|control) .*(UTF-|octet|surrogate|character)`)
	reservedForm = regexp.MustCompile("(?:^|[ \\[{,])([@`%])")
)

// Syntax returns the mistake in data for which the library returned err when it read data into an any or a yaml.Node:
// what is not YAML at all, or a key that stands twice in a mapping.
func Syntax(data []byte, err error) Problem {
	if list, ok := errors.AsType[*yaml.TypeError](err); ok {
		return Kind{}.libraryProblem(list.Errors[0], nil)
	}
	m := syntaxForm.FindStringSubmatch(err.Error())
	p := Problem{lineNumber(m[1]), m[2]}
	if m[1] != "" && parserForm.MatchString(p.Text) {
		p.Line++
	}
	line := lineOf(data, p.Line)
	indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	switch {
	case readerForm.MatchString(p.Text):
		return unreadable(data)
	case bytes.IndexByte(indent, '\t') >= 0:
		p.Text = "a tab indents this line; write blanks, YAML takes nothing else"
	case strings.HasPrefix(p.Text, "found character that cannot start any token") && reservedForm.Match(line):
		p.Text = fmt.Sprintf("a value that starts with %s has no quotes; put them around it",
			reservedForm.FindSubmatch(line)[1])
	default:
		p.Text += "; mend the YAML: look at indentation, colons, quotes and brackets here and just above"
	}
	return p
}

// unreadable returns the first place at which data is no text.
func unreadable(data []byte) Problem {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		line := 1 + bytes.Count(data[:i], []byte("\n"))
		switch {
		case r == utf8.RuneError && size == 1:
			return Problem{line, "the file is not UTF-8; save it as UTF-8"}
		case r == 0:
			return Problem{1, "there is a byte 0, as in a file of UTF-16; save it as UTF-8"}
		case r < ' ' && bytes.IndexByte([]byte("\t\r\n"), data[i]) < 0:
			return Problem{line, "a character here cannot be seen, and YAML takes none; remove it"}
		}
		i += size
	}
	return Problem{1, "the file has characters that YAML does not take; save it as UTF-8"}
}

// lineOf returns a line, which counts from 1, without its end.
func lineOf(data []byte, number int) []byte {
	lines := bytes.Split(data, []byte("\n"))
	if number > len(lines) {
		return nil
	}
	return lines[number-1]
}
