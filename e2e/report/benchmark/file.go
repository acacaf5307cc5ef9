package benchmark

import (
	"bytes"
	"errors"
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
	document, err := format().Marshal(b)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := b.WriteHTML(&page); err != nil {
		return err
	}
	write := func(name string, data []byte) error {
		return renameio.WriteFile(filepath.Join(dir, name), data, 0o644)
	}
	return errors.Join(write(JSONName, document), write(HTMLName, page.Bytes()),
		write(MarkdownName, []byte(b.Markdown())))
}
