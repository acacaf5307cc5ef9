package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/report/matrix"
)

func newMatrixCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "matrix DIR…",
		Short: "Put reports about versions of plugins side by side: what came and what went",
		Long: `Matrix reads all reports below the directories and writes one page about them: each plugin with its
versions, each requirement and scenario in each version, and what came and what went from one version
to the next. A plugin that was under test nowhere, such as an IPAM plugin, has what was seen of it
beside others.

The version is that of the target file (implementation.version), else that in the binary of the first
plugin under test. Two reports about the same version, chain and profile are an error, and so are
shards that were not merged.`,
		Example: `  cnitest report matrix reports --out matrix
  cnitest report matrix v1/out v2/out            only what came and what went, on standard output`,
		Args: someDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			sources, err := reportsBelow(args, out)
			if err != nil {
				return err
			}
			m, err := matrix.New(sources)
			if err != nil {
				return err
			}
			printChanges(cmd.OutOrStdout(), m)
			if out == "" {
				return nil
			}
			if err := m.WriteDir(out); err != nil {
				return fmt.Errorf("--out: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "page: %s\n", filepath.Join(out, matrix.HTMLName))
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory for matrix.html, matrix.md and matrix.json")
	cmd.AddCommand(&cobra.Command{
		Use: "schema", Short: "Print the JSON schema of matrix.json", Args: wantNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(matrix.Schema())
			return err
		},
	})
	return cmd
}

// reportsBelow reads all reports below directories, with their places as seen from another one. The reports of the runs
// of --repeat, and of shards beside a merged report, are parts of the one above them.
func reportsBelow(dirs []string, from string) ([]matrix.Source, error) {
	var sources []matrix.Source
	var errs []error
	for _, dir := range dirs {
		var found []string
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() != report.JSONName {
				return err
			}
			found = append(found, filepath.Dir(path))
			return nil
		})
		if err == nil && found == nil {
			err = fmt.Errorf("%s: there is no %s in it", dir, report.JSONName)
		}
		errs = append(errs, err)
		slices.Sort(found)
		for _, at := range outermost(found) {
			r, err := report.ReadFile(filepath.Join(at, report.JSONName))
			place, err2 := relative(from, at)
			sources, errs = append(sources, matrix.Source{Dir: place, Report: r}), append(errs, err, err2)
		}
	}
	return sources, errors.Join(errs...)
}

// outermost leaves out directories below others; the list is sorted.
func outermost(dirs []string) (outer []string) {
	for _, dir := range dirs {
		if !slices.ContainsFunc(outer, func(above string) bool {
			rest, err := filepath.Rel(above, dir)
			return err == nil && filepath.IsLocal(rest)
		}) {
			outer = append(outer, dir)
		}
	}
	return outer
}

// relative returns a path as seen from a directory; from "" it stays as it is.
func relative(from, path string) (string, error) {
	if from == "" {
		return path, nil
	}
	from, err := filepath.Abs(from)
	to, err2 := filepath.Abs(path)
	if err := errors.Join(err, err2); err != nil {
		return "", err
	}
	return filepath.Rel(from, to)
}

// printChanges prints what came and what went, for failures with the reason.
func printChanges(out io.Writer, m *matrix.Matrix) {
	for _, p := range m.Plugins {
		if len(p.Versions) == 1 {
			fmt.Fprintf(out, "%s %s is the only version of it here\n", p.Name, p.Versions[0].Version)
		}
		for _, step := range p.Steps() {
			fmt.Fprintf(out, "%s %s, after %s", p.Name, step.To, step.From)
			if step.CNI != "" {
				fmt.Fprintf(out, " (%s)", step.CNI)
			}
			fmt.Fprintf(out, ": %d went, %d came, %d could not be asked before and failed\n", len(step.Went),
				len(step.Came),
				len(step.Asked))
			for _, c := range slices.Concat(step.Went, step.Asked, step.Came) {
				fmt.Fprintf(out, "    %-5s  %-12s %s\n", c.What, c.ID, c.Title)
				if c.What != matrix.Came {
					fmt.Fprintf(out, "          %s\n", inLines(c.Reason))
				}
			}
		}
	}
	for _, note := range m.Notes {
		fmt.Fprintf(out, "note: %s\n", note)
	}
}
