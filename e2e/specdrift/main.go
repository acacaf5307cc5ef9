// Command specdrift compares a version of SPEC.md or CONVENTIONS.md that somebody has with the table of sentences
// (cnitest list sentences): it prints what is new, and what is gone, and exits with 1 if there is any.
//
// Usage: specdrift FILE
//
// Run its tests: go test ./e2e/specdrift
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/cnitest/cnitest/e2e/contract"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "specdrift: want the path of a SPEC.md or a CONVENTIONS.md")
		os.Exit(2)
	}
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "specdrift:", err)
		os.Exit(2)
	}
	known, err := contract.Sentences()
	if err != nil {
		fmt.Fprintln(os.Stderr, "specdrift:", err)
		os.Exit(2)
	}
	if drift(os.Stdout, os.Args[1], data, known) {
		os.Exit(1)
	}
}

// drift prints how a document differs from the table, and reports whether it does.
func drift(out io.Writer, path string, markdown []byte, known []contract.Sentence) bool {
	type key struct{ section, hash string }
	table := map[key]bool{}
	for _, s := range known {
		table[key{s.Section, s.Hash}] = true
	}
	there := map[key]bool{}
	conventions, differs := false, false
	for _, f := range extract(markdown) {
		k := key{f.section, f.hash}
		conventions = conventions || f.section[0] == 'C'
		if f.normative && !table[k] && !there[k] {
			fmt.Fprintf(out, "new   %-16s %s %s:%d: %s\n", f.section, f.hash, path, f.line, f.text)
			differs = true
		}
		there[k] = true
	}
	for _, s := range known {
		if (s.Section[0] == 'C') == conventions && !there[key{s.Section, s.Hash}] {
			fmt.Fprintf(out, "gone  %-16s %s %s\n", s.Section, s.Hash, s.Text)
			differs = true
		}
	}
	if !differs {
		fmt.Fprintf(out, "%s has the sentences of containernetworking/cni at %s\n", path, contract.Commit)
	}
	return differs
}
