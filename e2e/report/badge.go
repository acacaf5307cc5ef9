package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"unicode/utf8"
)

// badge is what a badge says.
type badge struct {
	Label, Message, Color string
}

// colours returns the colour of a verdict, by its name at shields.io and as a number.
func (v Verdict) colours() (name, number string) {
	switch v {
	case Conformant:
		return "brightgreen", "#2c7a1f"
	case Partial:
		return "yellow", "#7d6608"
	case NotConformant:
		return "red", "#b3261e"
	}
	return "lightgrey", "#5f6368"
}

func (r *Report) badge() badge {
	name, _ := r.Verdict.colours()
	return badge{Label: "CNI " + r.Profile, Message: string(r.Verdict), Color: name}
}

// WriteBadge writes the verdict in the form of an endpoint of shields.io, which draws a badge from it.
func (r *Report) WriteBadge(out io.Writer) error {
	b := r.badge()
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		SchemaVersion int    `json:"schemaVersion"`
		Label         string `json:"label"`
		Message       string `json:"message"`
		Color         string `json:"color"`
	}{1, b.Label, b.Message, b.Color})
}

//go:embed badge.svg
var badgePicture string

// WriteBadgeSVG draws the verdict.
func (r *Report) WriteBadgeSVG(out io.Writer) error {
	picture, err := template.New("badge").Parse(badgePicture)
	if err != nil {
		return err
	}
	// Letters of the font are up to 7 units wide.
	const letter, margin = 7, 12
	b := r.badge()
	left, right := letter*utf8.RuneCountInString(b.Label)+margin, letter*utf8.RuneCountInString(b.Message)+margin
	_, b.Color = r.Verdict.colours()
	if err := picture.Execute(out, struct {
		badge
		Left, Right, Whole, LeftMiddle, RightMiddle int
	}{b, left, right, left + right, left / 2, left + right/2}); err != nil {
		return fmt.Errorf("badge: %w", err)
	}
	return nil
}
