package benchmark

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// These are the names of the document and its renderings in the directory that cnitest bench writes to.
const (
	JSONName     = "bench.json"
	HTMLName     = "bench.html"
	MarkdownName = "bench.md"
)

// WriteDir writes the document and its renderings into a directory, which it makes if it does not exist.
func (b *Benchmark) WriteDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var document, page bytes.Buffer
	encoder := json.NewEncoder(&document)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(b); err != nil {
		return fmt.Errorf("benchmark: %w", err)
	}
	if err := b.WriteHTML(&page); err != nil {
		return err
	}
	write := func(name string, data []byte) error {
		return renameio.WriteFile(filepath.Join(dir, name), data, 0o644)
	}
	return errors.Join(write(JSONName, document.Bytes()), write(HTMLName, page.Bytes()),
		write(MarkdownName, []byte(b.Markdown())))
}
