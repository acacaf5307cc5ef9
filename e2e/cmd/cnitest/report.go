package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/report"
)

func newReportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Render, compare, verify and merge reports",
		Long: `Report works on the report.json that cnitest run writes with --report-dir. It is strict: a file
of another apiVersion, or with unknown fields, is an error. The directory that has it stands for it.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("report: unknown command %q; see cnitest report --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newRenderCommand("html", "one page without scripts, for a browser",
			"Its links to packet captures are relative: keep it beside the report.json.",
			(*report.Report).WriteHTML),
		newRenderCommand("markdown", "Markdown below 60 KB, for a step summary of GitHub",
			"Where it is too long, evidence goes first, and a sentence says so.",
			func(r *report.Report, out io.Writer) error {
				_, err := io.WriteString(out, r.Markdown())
				return err
			}),
		newRenderCommand("sarif", "SARIF 2.1.0, which code hosts show beside the code",
			"It has the failures that count: of a scenario with the line of its step, of a requirement with the "+
				"line of the conflist that names the plugin.", (*report.Report).WriteSARIF),
		newDiffCommand(), newSchemaCommand(), newVerifyCommand(), newMergeCommand(), newMatrixCommand(),
		newBadgeCommand())
	return cmd
}

func newRenderCommand(name, what, more string, render func(*report.Report, io.Writer) error) *cobra.Command {
	return rendering(&cobra.Command{
		Use:     name + " FILE",
		Short:   "Render a report.json as " + what,
		Long:    "Render a report.json as " + what + ". " + more,
		Example: fmt.Sprintf("  cnitest report %s out/report.json > report.%s", name, name),
		Args:    wantDocuments(report.JSONName, "FILE"),
	}, readReport, render)
}

// rendering makes a command read a document from the file that is its argument, and render it to standard output or to
// the file of --output.
func rendering[T any](
	cmd *cobra.Command, read func(path string) (T, error), render func(T, io.Writer) error,
) *cobra.Command {
	var output string
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		document, err := read(args[0])
		if err := errors.Join(checkOutput("--output", output), err); err != nil {
			return err
		}
		var text bytes.Buffer
		if err := render(document, &text); err != nil {
			return err
		}
		if output != "" {
			return writeOutput("--output", output, text.Bytes())
		}
		_, err = cmd.OutOrStdout().Write(text.Bytes())
		return err
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default standard output)")
	return cmd
}

func newDiffCommand() *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Compare two report.json, exit 1 on a regression",
		Long: `Diff lists what is worse, better, changed, new and gone in the later of two reports.

A regression is something that the old report showed and the new one does not: a pass that failed,
became vacuous, was skipped, is no longer claimed or is gone; another result that failed or became
vacuous; a verb that notices a smaller share of what was broken on purpose; a worse verdict
(conformant, partial, not-conformant, env-unfit). It counts if the result counts in one of the
reports. Results that became not-applicable or known-upstream are listed, and so are new ones; a new
failure is a regression only if it makes the verdict worse.

Exit status: 0 no regression, 1 a regression, 2 a file is not a report.`,
		Example: `  cnitest report diff main/report.json out/report.json
  cnitest report diff main/report.json out/report.json --markdown > comment.md`,
		Args: wantDocuments(report.JSONName, "OLD", "NEW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := readReport(args[0])
			after, err2 := readReport(args[1])
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			d := report.Diff(before, after)
			if markdown {
				_, err = io.WriteString(cmd.OutOrStdout(), d.Markdown(after))
			} else {
				err = d.Print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if d.Regressed() {
				return &exitError{status: exitNotConformant}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "write the text of a comment on a pull request")
	return cmd
}

func newSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of report.json",
		Args:  wantNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(report.Schema())
			return err
		},
	}
}
