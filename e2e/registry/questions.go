// Package registry decides whether a report may stand in a list of reports that others sent: whether it is one that
// cnitest wrote, of everything that this cnitest asks, about the binaries that it names.
//
// It cannot find out whether somebody wrote a whole report by hand: that takes running it again, for which a report has
// all inputs.
//
// Run its tests: go test ./e2e/registry
package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/cnitest/cnitest/e2e/contract"
)

// Questions is a hash of everything that the suite asks: the scenario files and the requirements.
func Questions(scenarios fs.FS) (string, error) {
	hash := sha256.New()
	files, err := fs.Glob(scenarios, "*.yaml")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := fs.ReadFile(scenarios, file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n", file, len(text))
		hash.Write(text)
	}
	for _, r := range contract.Requirements() {
		text, err := json.Marshal([]any{r.ID, r.Level, r.Roles, r.Since, r.Text, r.How, r.Checked()})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s\n", text)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
