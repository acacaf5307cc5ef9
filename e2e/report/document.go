package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// Format describes a kind of document that cnitest writes in JSON.
type Format struct {
	APIVersion, Kind string
	// Name is the word for the document in errors: "report".
	Name string
	// File says where people have it from: "report.json of cnitest run". Command is the command that reads it.
	File, Command string
	// Schema is its JSON schema (draft 2020-12).
	Schema []byte
}

// ReadFile reads a document into a struct. It is strict: another apiVersion or kind, and a missing or unknown field,
// are errors of one line that start with the file's name.
func (f Format) ReadFile(path string, document any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := f.parse(data, document); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (f Format) parse(data []byte, document any) error {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Suite      Suite  `json:"suite"`
	}
	// json.Unmarshal refuses anything after the document, too.
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("want a %s of cnitest in JSON: %w", f.Name, syntax(data, err))
	}
	switch {
	case head.Kind != f.Kind:
		return fmt.Errorf("kind %q: want %s; is it a %s?", head.Kind, f.Kind, f.File)
	case head.APIVersion != f.APIVersion:
		return fmt.Errorf("apiVersion %q: want %s; it was written by cnitest %s, whose own %s command reads it",
			head.APIVersion, f.APIVersion, cmp.Or(head.Suite.Version, "of another version"), f.Command)
	}
	if err := Validate(f.Schema, data); err != nil {
		return err
	}
	// This refuses a date-time that lacks a part, which Validate accepts.
	err := json.Unmarshal(data, document)
	var wrong *time.ParseError
	switch {
	case errors.As(err, &wrong):
		return fmt.Errorf("document: want a time such as 2026-01-02T15:04:05Z, got %s", wrong.Value)
	case err != nil:
		return fmt.Errorf("document: %w", err)
	}
	return nil
}

// Marshal returns a document as it is written: indented, since people read it, too, and with angle brackets as they
// are, of which the states in it are full.
func (f Format) Marshal(document any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return text.Bytes(), nil
}
