package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/registry"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/scenarios"
)

// someDirs wants at least one directory of a report.
func someDirs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("report %s: want the directory of a report; see %s --help", cmd.Name(), cmd.CommandPath())
	}
	return nil
}

func newVerifyCommand() *cobra.Command {
	o := registry.Options{Version: version(), Scenarios: scenarios.Files}
	cmd := &cobra.Command{
		Use:   "verify DIR…",
		Short: "Check that reports are what cnitest wrote, and fit for a list of reports",
		Long: `Verify says what is wrong with the report in a directory, each in a sentence:

  - report.json must fit the schema, and its digest its content;
  - it must be of a whole run by a release, the one that verifies it, with a result of everything
    that this release asks of the plugins, each with the level that it has there, and no other;
  - its verdict must follow from its results;
  - its inputs must have the hashes that it says: conflist, target, plugins, profile and command;
  - the binaries in --bin-dir must be those that were tested;
  - report.html and report.md must show what report.json says, and packet captures must be there;
  - it must name organization, project, version and contact (implementation in the target file; the
    version may be that of --implementation-version).

A digest is no signature: whoever writes a whole report by hand can give it one. That shows when
it is repeated, for which it has the command and all files.

Exit status: 0 nothing is wrong, 1 something is, 2 a file is not a report.`,
		Example: `  cnitest report verify out
  cnitest report verify reports/* --bin-dir bin`,
		Args: someDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.BinDir != "" {
				if err := isDir("--bin-dir", o.BinDir); err != nil {
					return err
				}
			}
			status := exitConformant
			for _, dir := range args {
				status = max(status, verify(cmd.OutOrStdout(), dirOfReport(dir), o))
			}
			if status != exitConformant {
				return &exitError{status: status}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&o.BinDir, "bin-dir", "",
		"directory of the plugins' binaries, which are compared with the report")
	cmd.Flags().BoolVar(&o.Unreleased, "unreleased", false,
		"accept a report of a cnitest that is no release, if it is this one, and about plugins that have no version")
	return cmd
}

// verify prints what is wrong with a report and returns the exit status.
func verify(out io.Writer, dir string, o registry.Options) int {
	r, problems := registry.Verify(dir, o)
	for _, problem := range problems {
		fmt.Fprintf(out, "%s: %v\n", dir, problem)
	}
	switch {
	case r == nil:
		return exitUsage
	case problems != nil:
		return exitNotConformant
	}
	compared := "its binaries were not compared (--bin-dir)"
	if o.BinDir != "" {
		compared = "its binaries are those of " + o.BinDir
	}
	fmt.Fprintf(out, "%s: nothing is wrong: %s in profile %s, %s; %s\n", dir, r.Verdict, r.Profile, r.Certainty(),
		compared)
	return exitConformant
}

func newMergeCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "merge DIR…",
		Short: "Put the reports of the shards of a run together: one report, one verdict",
		Long: `Merge reads the reports of cnitest run --shard 1/N to N/N and writes one report of the whole run, as
if it had been run at once. A shard that is missing or there twice is an error, and so are shards
that other binaries, files, versions or command lines made; each is named.

The time of the run is that of all shards together. Of times of calls, which cannot be added, the
report has those of the shard that made most.

Exit status: as that of cnitest run.`,
		Example: `  cnitest run net.d/10-mynet.conflist --bin-dir bin --shard 1/2 --report-dir out/1
  cnitest run net.d/10-mynet.conflist --bin-dir bin --shard 2/2 --report-dir out/2
  cnitest report merge out/1 out/2 --report-dir out/all`,
		Args: someDirs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return errors.New("report merge: want --report-dir, the directory for the merged report")
			}
			for i := range args {
				args[i] = dirOfReport(args[i])
			}
			merged, err := merge(args, dir)
			if err != nil {
				return err
			}
			printSummary(cmd.OutOrStdout(), merged, dir)
			return cmp.Or((&runFlags{}).status(merged), lackOf(merged), labFailure(merged))
		},
	}
	cmd.Flags().StringVar(&dir, "report-dir", "",
		"directory for the merged report, with the evidence of all (required)")
	return cmd
}

// merge writes the report of all shards to a directory.
func merge(dirs []string, into string) (*report.Report, error) {
	var parts []report.Part
	var errs []error
	for _, dir := range dirs {
		r, err := report.ReadFile(filepath.Join(dir, report.JSONName))
		parts, errs = append(parts, report.Part{Name: dir, Report: r}), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	merged, err := report.Merge(parts)
	if err != nil {
		return nil, err
	}
	if err := makeReportDir(into); err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		if err := copyEvidence(dir, into); err != nil {
			return nil, err
		}
	}
	return merged, merged.WriteDir(into)
}

// copyEvidence copies the files of evidence. Those of several shards have different names, but for the few tests that
// each shard makes.
func copyEvidence(from, into string) error {
	files, err := os.ReadDir(filepath.Join(from, report.EvidenceDir))
	if err != nil {
		return nil //nolint:nilerr // Nothing failed, or it was a run without files.
	}
	if err := os.MkdirAll(filepath.Join(into, report.EvidenceDir), 0o755); err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(from, report.EvidenceDir, f.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(into, report.EvidenceDir, f.Name()), data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func newBadgeCommand() *cobra.Command {
	var svg bool
	cmd := rendering(&cobra.Command{
		Use:   "badge FILE",
		Short: "Make a badge of the verdict: JSON for shields.io, or SVG",
		Long: `Badge writes the verdict as a badge. The JSON is that of an endpoint of shields.io: publish it, and
show https://img.shields.io/endpoint?url=ADDRESS. With --svg it is a picture that needs nobody.`,
		Example: `  cnitest report badge out/report.json -o badge.json
  cnitest report badge out/report.json --svg -o badge.svg`,
		Args: wantDocuments(report.JSONName, "FILE"),
	}, readReport, func(r *report.Report, out io.Writer) error {
		if svg {
			return r.WriteBadgeSVG(out)
		}
		return r.WriteBadge(out)
	})
	cmd.Flags().BoolVar(&svg, "svg", false, "draw it, instead of JSON for an endpoint of shields.io")
	return cmd
}
