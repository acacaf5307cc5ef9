package conflist

import (
	"bytes"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// passage is a text and the place of each of its bytes in the file from which it was read.
type passage struct {
	file  string
	whole []byte
	text  []byte
	// origin is the offset in whole of each byte of text; nil if text is whole.
	origin []int
}

func wholeFile(name string, data []byte) passage { return passage{file: name, whole: data, text: data} }

// source returns the offset in the file of an offset in the text, which may be the end of the text.
func (p passage) source(offset int) int {
	switch {
	case p.origin == nil:
		return min(offset, len(p.whole))
	case offset < len(p.origin):
		return p.origin[offset]
	case len(p.origin) > 0:
		return p.origin[len(p.origin)-1]
	}
	return 0
}

// line returns the line in the file of an offset in the text, starting at 1.
func (p passage) line(offset int) int {
	return 1 + bytes.Count(p.whole[:p.source(offset)], []byte("\n"))
}

// column returns the column, in bytes from 1, of an offset in the text.
func (p passage) column(offset int) int {
	at := p.source(offset)
	return at - bytes.LastIndexByte(p.whole[:at], '\n')
}

// replace replaces spans, which are in ascending order.
func (p passage) replace(spans [][]int, with func(old string) string) passage {
	if len(spans) == 0 {
		return p
	}
	changed := passage{file: p.file, whole: p.whole}
	last := 0
	keep := func(to int) {
		for ; last < to; last++ {
			changed.text = append(changed.text, p.text[last])
			changed.origin = append(changed.origin, p.source(last))
		}
	}
	for _, at := range spans {
		keep(at[0])
		for _, b := range []byte(with(string(p.text[at[0]:at[1]]))) {
			changed.text = append(changed.text, b)
			changed.origin = append(changed.origin, p.source(at[0]))
		}
		last = at[1]
	}
	keep(len(p.text))
	return changed
}

// scalarPassage returns the passage of a scalar in a YAML file.
func scalarPassage(file string, whole []byte, node *yaml.Node) passage {
	return passage{file: file, whole: whole, text: []byte(node.Value), origin: scalarOrigin(whole, node)}
}

// scalarOrigin finds the bytes of a scalar's value in the file, whatever its style. The file has the same characters in
// the same order, except for white space, which is folded, and escapes.
func scalarOrigin(whole []byte, node *yaml.Node) []int {
	at := offsetOf(whole, node.Line, node.Column)
	switch node.Style &^ yaml.TaggedStyle {
	case yaml.LiteralStyle, yaml.FoldedStyle:
		if end := bytes.IndexByte(whole[at:], '\n'); end >= 0 { // after the indicator
			at += end + 1
		}
	case yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle:
		at++
	}
	value := node.Value
	origin := make([]int, 0, len(value))
	for i := 0; i < len(value); {
		switch {
		case isSpace(value[i]) && !(node.Style == yaml.DoubleQuotedStyle && escapesSpace(whole, at)):
			origin = append(origin, min(at, len(whole)))
			if at < len(whole) && whole[at] == value[i] {
				at++
			}
			i++
			continue
		case node.Style == yaml.DoubleQuotedStyle:
			at = skipSpace(whole, at)
			if at < len(whole) && whole[at] == '\\' {
				_, size := utf8.DecodeRuneInString(value[i:])
				for range size {
					origin = append(origin, at)
				}
				i, at = i+size, at+escapeLength(whole[at:])
				continue
			}
		default:
			at = skipSpace(whole, at)
		}
		origin = append(origin, min(at, len(whole)))
		at++
		if node.Style == yaml.SingleQuotedStyle && value[i] == '\'' {
			at++ // it is doubled
		}
		i++
	}
	return origin
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// skipSpace returns the offset of the next byte that is not white space, and skips an escape that joins two lines.
func skipSpace(whole []byte, at int) int {
	for at < len(whole) && (isSpace(whole[at]) || joinsLines(whole[at:])) {
		at++
	}
	return at
}

func joinsLines(text []byte) bool {
	return bytes.HasPrefix(text, []byte("\\\n")) || bytes.HasPrefix(text, []byte("\\\r"))
}

// escapesSpace reports whether white space of a value is written as an escape here.
func escapesSpace(whole []byte, at int) bool {
	return at+1 < len(whole) && whole[at] == '\\' && bytes.IndexByte([]byte("nrt \t"), whole[at+1]) >= 0
}

// escapeLength returns the number of bytes of an escape in a double-quoted scalar.
func escapeLength(text []byte) int {
	if len(text) < 2 {
		return 1
	}
	switch text[1] {
	case 'x':
		return 4
	case 'u':
		return 6
	case 'U':
		return 10
	}
	return 2
}

// offsetOf returns the offset of a line and a column, both from 1; columns count characters.
func offsetOf(whole []byte, line, column int) int {
	at := 0
	for ; line > 1; line-- {
		end := bytes.IndexByte(whole[at:], '\n')
		if end < 0 {
			return len(whole)
		}
		at += end + 1
	}
	for ; column > 1 && at < len(whole); column-- {
		_, size := utf8.DecodeRune(whole[at:])
		at += size
	}
	return at
}
