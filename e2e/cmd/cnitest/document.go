package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// readReport reads a report.json, which the directory of the report may stand for.
func readReport(path string) (*report.Report, error) {
	return report.ReadFile(inDir(path, report.JSONName))
}

// readBenchmark reads a bench.json, which its directory may stand for.
func readBenchmark(path string) (*benchmark.Benchmark, error) {
	return benchmark.ReadFile(inDir(path, benchmark.JSONName))
}

// inDir returns the path of a document: the path itself, or that of the name below it if it is a directory.
func inDir(path, name string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, name)
	}
	return path
}

// dirOfReport returns the directory of a report, which the path of its report.json may stand for.
func dirOfReport(path string) string {
	if info, err := os.Stat(path); err == nil && !info.IsDir() && filepath.Base(path) == report.JSONName {
		return filepath.Dir(path)
	}
	return path
}

// wantDocuments returns an error unless a command gets as many paths as names, each of a document such as report.json.
func wantDocuments(document string, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		want := "the path of a " + document
		if len(names) > 1 {
			want = "the paths of two " + document + ", the old one first"
		}
		return fmt.Errorf("%s: want %s, got %d paths; see %s --help", words(cmd), want, len(args), cmd.CommandPath())
	}
}

// wantNothing returns an error if there are arguments.
func wantNothing(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s: want no arguments, got %q", words(cmd), args[0])
	}
	return nil
}

// words returns a command without the name of the program: "report diff".
func words(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// checkOutput returns an error that names the flag if the file to write is a directory.
func checkOutput(flag, path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s: %s is a directory; name a file in it", flag, path)
	}
	return nil
}

// writeOutput writes a file at once or not at all. Its error names the flag and the file.
func writeOutput(flag, path string, data []byte) error {
	if err := checkOutput(flag, path); err != nil {
		return err
	}
	err := renameio.WriteFile(path, data, 0o644)
	// The path of such an error is that of a temporary file.
	var wrong *fs.PathError
	if errors.As(err, &wrong) {
		err = wrong.Err
	}
	if err != nil {
		return fmt.Errorf("%s: write %s: %w", flag, path, err)
	}
	return nil
}
