package main

import (
	"errors"
	"os"
	"path/filepath"
)

// errorName is the file that says why there is no report.
const errorName = "error.txt"

// handOver writes the path of the report's directory into the file of --done. Sonobuoy waits for this file of each of
// its plugins, and collects the directory. run is the error of the run; if the run had no verdict, the directory says
// why.
func (f *outputFlags) handOver(run error) error {
	if f.done == "" {
		return nil
	}
	dir, err := filepath.Abs(f.reportDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// A verdict is an exit status without words.
	var verdict *exitError
	if run != nil && (!errors.As(run, &verdict) || verdict.err != nil) {
		if err := os.WriteFile(filepath.Join(dir, errorName), []byte(run.Error()+"\n"), 0o644); err != nil {
			return err
		}
	}
	return writeOutput("--done", f.done, []byte(dir))
}
