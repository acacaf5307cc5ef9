package scenario

import (
	"fmt"
	"strings"
)

// String returns the probe as a sentence.
func (p Probe) String() string {
	text := "probe " + p.Protocol
	if p.Port != 0 {
		text += fmt.Sprintf(" %d", p.Port)
	}
	text += fmt.Sprintf(" %s → %s", p.From, p.To)
	if p.Interface != "" {
		text += " " + p.Interface
	}
	for _, option := range []struct {
		given bool
		text  string
	}{
		{p.Source != "", strings.TrimSpace("seen as " + p.Source + " " + p.SourceInterface)},
		{p.Bytes != 0, p.Bytes.String() + " each way"},
		{p.FullMTU, "packets of the full MTU"},
		{p.Size != 0, fmt.Sprintf("packets of %d bytes", p.Size)},
		{p.By != "", "by " + p.By},
		{p.Count > 1, fmt.Sprintf("%d times", p.Count)},
		{p.Within != 0, "within " + p.Within.String()},
		{p.Attempts == 1, "first try"},
		{p.Attempts > 1, fmt.Sprintf("at most %d tries", p.Attempts)},
	} {
		if option.given {
			text += ", " + option.text
		}
	}
	return text
}

// String returns the flows as a sentence.
func (f Flows) String() string {
	text := fmt.Sprintf("flows %s %d ", f.Protocol, f.Port)
	if f.From != "" {
		return text + f.From + " → " + f.To
	}
	return text + "between " + strings.Join(f.Between, ", ")
}

// String returns the end of the flows as a sentence.
func (s Stop) String() string {
	if s.Gap != 0 {
		return fmt.Sprintf("stop flows, at most %s without a reply", s.Gap)
	}
	return fmt.Sprintf("stop flows, at most %d lost of each", s.Lost)
}

// String returns the assertion as a sentence.
func (s State) String() string {
	var parts []string
	if s.Cache != "" {
		parts = append(parts, "cache "+s.Cache)
	}
	if s.Address != "" {
		parts = append(parts, "address "+s.Address)
	}
	if len(s.Unchanged) > 0 {
		parts = append(parts, strings.Join(s.Unchanged, " and ")+" unchanged")
	}
	of := s.Of
	if s.As != "" {
		of += " " + s.As
	}
	return "state of " + of + ": " + strings.Join(parts, ", ")
}
