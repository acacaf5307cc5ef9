package benchmark

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// JSONName is the name of the document in the directory that cnitest bench writes to.
const JSONName = "bench.json"

// WriteDir writes the document into a directory, which it makes if it does not exist.
func (b *Benchmark) WriteDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var document bytes.Buffer
	encoder := json.NewEncoder(&document)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(b); err != nil {
		return fmt.Errorf("benchmark: %w", err)
	}
	return renameio.WriteFile(filepath.Join(dir, JSONName), document.Bytes(), 0o644)
}
