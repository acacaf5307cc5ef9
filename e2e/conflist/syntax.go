package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// syntaxError adds a place to err, and describes common mistakes of people who write JSON by hand.
func (d *document) syntaxError(err error) error {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return fmt.Errorf("%s:%d: %w", d.file, d.line(0), err)
	}
	if len(bytes.TrimSpace(d.text)) == 0 {
		return fmt.Errorf("%s:%d: the file is empty; want a CNI configuration list", d.file, d.line(0))
	}
	// SyntaxError.Offset counts the bytes read, including the wrong one; at the end of the file there is no wrong one.
	at := min(int(syntax.Offset)-1, len(d.text)-1)
	return fmt.Errorf("%s:%d:%d: %s", d.file, d.line(at), d.column(at), d.mistake(syntax, at))
}

func (d *document) mistake(syntax *json.SyntaxError, at int) string {
	wrong := d.text[at]
	before := bytes.TrimRight(d.text[:at], " \t\r\n")
	found := func(part string) bool { return strings.Contains(syntax.Error(), part) }
	if text := d.encodingMistake(at); text != "" && !found("unexpected end") {
		return text
	}
	switch {
	case found("unexpected end"):
		return "the file ends too early; close what is open with quote, ] or }"
	case (wrong == '}' || wrong == ']') && bytes.HasSuffix(before, []byte(",")):
		return fmt.Sprintf("there is a comma before %c; remove it", wrong)
	case wrong == '/' || wrong == '#':
		return "JSON has no comments; remove this one"
	case wrong == '\'':
		return `a string is in single quotes; write "like this"`
	case wrong == ',' && bytes.HasSuffix(before, []byte(",")):
		return "there are two commas; remove one"
	case found("in string literal"):
		return `a string has a line break or another control character in it; close its quote before, or write it as \n`
	case found("in string escape code"), found("in \\u hexadecimal character escape"):
		return `a backslash begins an escape such as \n; write \\ for the backslash itself`
	case afterZero(d.text[:at]) && (wrong == 'x' || wrong == 'X' || wrong >= '0' && wrong <= '9'):
		return "a number is written with a 0 before it; write it in decimal digits, without"
	case found("after object key:value pair") && wrong == '"', found("after array element") &&
		bytes.IndexByte([]byte(`"{[`), wrong) >= 0:
		return "a comma is missing before this; add it"
	case found("after object key:value pair"), found("after array element"):
		return "a comma, ] or } is missing before this; add it"
	case bytes.HasSuffix(before, []byte(`"`)) && found("after object key"):
		key := before[bytes.LastIndexByte(before[:len(before)-1], '"'):]
		return fmt.Sprintf("a colon is missing after %s; write %s: …", key, key)
	case found("after top-level value"):
		return "one file holds one object; remove what follows it"
	case found("object key string"):
		return "a key has no quotes; write \"like this\""
	}
	return d.valueMistake(syntax, at)
}

// encodingMistake describes a character that people see as another one, or do not see at all; empty if it is none.
func (d *document) encodingMistake(at int) string {
	switch start := d.text[:min(len(d.text), 3)]; {
	case bytes.Equal(start, []byte("\xef\xbb\xbf")):
		return "the file starts with a byte order mark; save it as UTF-8 without"
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return "the file is UTF-16; save it as UTF-8"
	case d.text[at] == 0:
		return "there is a byte 0, as in a file of UTF-16; save it as UTF-8"
	}
	r, size := utf8.DecodeRune(d.text[at:])
	switch {
	case r < utf8.RuneSelf:
		return ""
	case r == utf8.RuneError && size == 1:
		return "the file is not UTF-8; save it as UTF-8"
	case unicode.In(r, unicode.Quotation_Mark):
		return fmt.Sprintf(`%c is a typographic quote; write "`, r)
	case unicode.In(r, unicode.Z, unicode.Cf):
		return fmt.Sprintf("the character %U looks like a space or like nothing; remove it", r)
	}
	return fmt.Sprintf(`a string that starts with %c has no quotes; write "like this"`, r)
}

// afterZero reports whether the text ends with a number that has no digit but 0.
func afterZero(text []byte) bool {
	rest, ok := bytes.CutSuffix(text, []byte("0"))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n:,[-"), rest[len(rest)-1]) >= 0)
}

// valueMistake describes a wrong character where a value begins, or in true, false and null.
func (d *document) valueMistake(syntax *json.SyntaxError, at int) string {
	start := bytes.LastIndexAny(d.text[:at], " \t\r\n:,[") + 1
	end := start
	for end < len(d.text) && bytes.IndexByte([]byte(" \t\r\n:,]}\""), d.text[end]) < 0 {
		end++
	}
	word := string(d.text[start:end])
	switch lower := strings.ToLower(word); {
	case len(bytes.TrimSpace(d.text[:start])) == 0:
		return "the file does not hold JSON; write one object, from { to }"
	case word == "":
		return fmt.Sprintf("a value is missing before %c; add it", d.text[at])
	case lower == "true" || lower == "false" || lower == "null":
		return fmt.Sprintf("JSON has no %s; write %s", word, lower)
	case word == "None" || word == "nil":
		return fmt.Sprintf("JSON has no %s; write null", word)
	case unicode.IsLetter(rune(word[0])):
		return `a string has no quotes; write "like this"`
	}
	return fmt.Sprintf("%v; write a JSON value", syntax)
}
