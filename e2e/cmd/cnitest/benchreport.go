package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// benchCommands are the subcommands of bench, which work on files that it wrote.
func benchCommands() []*cobra.Command {
	return []*cobra.Command{
		newBenchDiffCommand(),
		newBenchRenderCommand("html", "one page with plots, without scripts", (*benchmark.Benchmark).WriteHTML),
		newBenchRenderCommand("markdown", "Markdown", func(b *benchmark.Benchmark, out io.Writer) error {
			_, err := io.WriteString(out, b.Markdown())
			return err
		}),
		{
			Use: "schema", Short: "Print the JSON schema of bench.json", Args: wantNothing,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := cmd.OutOrStdout().Write(benchmark.Schema())
				return err
			},
		},
	}
}

func newBenchRenderCommand(name, what string, render func(*benchmark.Benchmark, io.Writer) error) *cobra.Command {
	return rendering(&cobra.Command{
		Use:     name + " FILE",
		Short:   "Render a bench.json as " + what,
		Example: fmt.Sprintf("  cnitest bench %s out/bench.json > bench.%s", name, name),
		Args:    wantDocuments(benchmark.JSONName, "FILE"),
	}, readBenchmark, render)
}

func newBenchDiffCommand() *cobra.Command {
	var margin float64
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Compare two bench.json by their ratios, exit 1 if something costs more",
		Long: `Diff compares what does not depend on the speed of a machine: the ratios of calls to noop, alone,
many at once and with many attachments; system calls, netlink messages, dumped bytes, programs and
memory of a call; and the ratios of traffic to a bare veth pair. Times are never compared.

A value is worse if it is worse by more than --margin and its interval does not touch the old one. Only
values of the chain under test count; those of the chains beside it are listed.

Exit status: 0 nothing is worse, 1 something is worse, 2 a file is no bench.json, or the two cannot be
compared because noop is not the same plugin.`,
		Example: "  cnitest bench diff main/bench.json out/bench.json\n" +
			"  cnitest bench diff main/bench.json out/bench.json --margin 0.1",
		Args: wantDocuments(benchmark.JSONName, "OLD", "NEW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if margin < 0 {
				return fmt.Errorf("--margin %g: want 0 or more", margin)
			}
			before, err := readBenchmark(args[0])
			after, err2 := readBenchmark(args[1])
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			d, err := benchmark.Diff(before, after, margin)
			if err != nil {
				return err
			}
			if err := d.Print(cmd.OutOrStdout()); err != nil {
				return err
			}
			if len(d.Worse) > 0 {
				return &exitError{status: exitNotConformant}
			}
			return nil
		},
	}
	cmd.Flags().Float64Var(&margin, "margin", benchmark.DefaultMargin,
		"how much worse a value may be: 0.25 is a quarter more")
	return cmd
}
