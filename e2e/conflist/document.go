package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// value is a JSON value and its place, which encoding/json does not keep.
type value struct {
	offset int
	// scalar is a string, json.Number, bool or nil; objects and lists do not use it.
	scalar any
	keys   []string
	fields map[string]*value // nil unless it is an object
	items  []*value          // nil unless it is a list
	// known means that a known plugin reads the key of the value.
	known bool
}

// isTrue reports whether a key of the object is true.
func (v *value) isTrue(key string) bool {
	field := v.fields[key]
	return field != nil && field.scalar == true
}

// written returns a string or a number as text; empty for other values.
func (v *value) written() string {
	switch scalar := v.scalar.(type) {
	case string:
		return scalar
	case json.Number:
		return scalar.String()
	}
	return ""
}

func (v *value) kind() string {
	switch {
	case v.fields != nil:
		return "an object"
	case v.items != nil:
		return "a list"
	}
	switch v.scalar.(type) {
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	}
	return "null"
}

// plain returns the value as encoding/json would with UseNumber; each call makes a new one.
func (v *value) plain() any {
	switch {
	case v.fields != nil:
		return v.object()
	case v.items != nil:
		list := make([]any, 0, len(v.items))
		for _, item := range v.items {
			list = append(list, item.plain())
		}
		return list
	}
	return v.scalar
}

func (v *value) object() map[string]any {
	object := make(map[string]any, len(v.fields))
	for key, field := range v.fields {
		object[key] = field.plain()
	}
	return object
}

// strings calls yield for each string below the key, with the key of the string or of its list.
func (v *value) strings(key string, yield func(key, text string)) {
	if s, ok := v.scalar.(string); ok {
		yield(key, s)
	}
	for _, name := range v.keys {
		v.fields[name].strings(name, yield)
	}
	for _, item := range v.items {
		item.strings(key, yield)
	}
}

// document is a text with the problems found in it.
type document struct {
	passage
	root     *value
	problems []problem
	warnings []problem
	// templates are the offsets of values that are templates and have been reported.
	templates []int
}

type problem struct {
	offset int
	text   string
}

func (d *document) reject(v *value, format string, args ...any) {
	if slices.Contains(d.templates, v.offset) {
		return
	}
	d.problems = append(d.problems, problem{v.offset, fmt.Sprintf(format, args...)})
}

func (d *document) warn(v *value, format string, args ...any) {
	d.warnings = append(d.warnings, problem{v.offset, fmt.Sprintf(format, args...)})
}

// sortedWarnings returns the warnings in the order of the file; nil if there are none.
func (d *document) sortedWarnings() []string {
	slices.SortStableFunc(d.warnings, func(a, b problem) int { return a.offset - b.offset })
	var list []string
	for _, w := range d.warnings {
		list = append(list, fmt.Sprintf("%s:%d: %s", d.file, d.line(w.offset), w.text))
	}
	return list
}

// err joins the problems in the order of the file; nil if there are none.
func (d *document) err() error {
	slices.SortStableFunc(d.problems, func(a, b problem) int { return a.offset - b.offset })
	var errs []error
	for _, p := range d.problems {
		errs = append(errs, fmt.Errorf("%s:%d: %s", d.file, d.line(p.offset), p.text))
	}
	return errors.Join(errs...)
}

// parseDocument reads a JSON document. It stops at a syntax error, which it reports with line and column, since nothing
// after it can be trusted.
func parseDocument(p passage) (*document, error) {
	d := &document{passage: p}
	var ignored any
	if err := json.Unmarshal(p.text, &ignored); err != nil {
		// A template is not JSON. Report only the template: other errors follow from it.
		if d.rejectTemplates(); len(d.problems) > 0 {
			return nil, d.err()
		}
		return nil, d.syntaxError(err)
	}
	dec := json.NewDecoder(bytes.NewReader(p.text))
	dec.UseNumber()
	root, err := d.next(dec)
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", p.file, d.line(int(dec.InputOffset())), err)
	}
	d.root = root
	return d, nil
}

// next reads the value at the decoder's position.
func (d *document) next(dec *json.Decoder) (*value, error) {
	dec.More() // skips white space, comma or colon, so that the offset is the value's
	start := int(dec.InputOffset())
	start += len(d.text[start:]) - len(bytes.TrimLeft(d.text[start:], " \t\r\n,:"))
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	v := &value{offset: start}
	switch token {
	case json.Delim('{'):
		v.fields = map[string]*value{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			field, err := d.next(dec)
			if err != nil {
				return nil, err
			}
			name := key.(string)
			if first := v.fields[name]; first == nil {
				v.keys = append(v.keys, name)
			} else {
				d.warnDouble(name, first, field)
			}
			v.fields[name] = field
		}
		_, err = dec.Token()
	case json.Delim('['):
		v.items = []*value{}
		for dec.More() {
			item, err := d.next(dec)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, item)
		}
		_, err = dec.Token()
	default:
		v.scalar = token
	}
	return v, err
}

// isRoot reports whether a plugin is the whole document, which then has no list of plugins.
func (d *document) isRoot(plugin *value) bool { return plugin.offset == d.root.offset }

// warnDouble warns that a key occurs twice, and says which of the two values a decoder uses.
func (d *document) warnDouble(key string, first, last *value) {
	counts := "the last one counts"
	if text, err := json.Marshal(last.plain()); err == nil && last.fields == nil && last.items == nil {
		counts = fmt.Sprintf("the last one counts, %s", text)
	}
	d.warn(last, "%q occurs twice in one object, first in line %d, and %s; remove one", key, d.line(first.offset),
		counts)
}
