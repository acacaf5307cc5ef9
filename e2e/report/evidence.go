package report

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// EvidenceDir is the directory of the evidence, below that of the report.
const EvidenceDir = "evidence"

// WriteEvidence writes, below the report's directory, a text file for each result that has evidence, and the files of
// packets that the evidence names, of those in captures. Evidence that exists there belongs to another report, and is
// removed.
func (r *Report) WriteEvidence(dir string, captures map[string][]byte) error {
	evidence := filepath.Join(dir, EvidenceDir)
	if err := os.RemoveAll(evidence); err != nil {
		return err
	}
	for _, result := range r.Results {
		if len(result.Evidence) == 0 {
			continue
		}
		if err := os.MkdirAll(evidence, 0o755); err != nil {
			return err
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s (%s): %s\n%s\n", result.ID, result.Plugin, result.Result, result.Reason)
		for _, e := range result.Evidence {
			fmt.Fprintf(&b, "\n== %s\n%s\n", e.Title, e.Text)
			if e.File == "" {
				continue
			}
			name := filepath.Base(e.File)
			fmt.Fprintf(&b, "(the packets themselves: %s)\n", name)
			if err := renameio.WriteFile(filepath.Join(evidence, name), captures[name], 0o644); err != nil {
				return err
			}
		}
		file := filepath.Join(evidence, EvidenceName(result))
		if err := renameio.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// EvidenceName returns the name of a result's file in EvidenceDir.
func EvidenceName(result Result) string {
	return strings.ReplaceAll(result.Name(), " ", "-") + ".txt"
}
