package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

func newListCommand() *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:   "list scenarios|features",
		Short: "List what a run consists of",
		Long: `List scenarios shows what a run plays, with the features and failure modes that each stands for; both can be given to
run --label-filter. List features shows what a plugin can claim, and the profiles that demand it.`,
		Example:   "  cnitest list scenarios\n  cnitest list features",
		ValidArgs: []string{"scenarios", "features"},
		Args: func(cmd *cobra.Command, args []string) error {
			what := strings.Join(cmd.ValidArgs, " or ")
			switch {
			case len(args) != 1:
				return fmt.Errorf("list: want %s", what)
			case !slices.Contains(cmd.ValidArgs, args[0]):
				return fmt.Errorf("list: want %s, got %q", what, args[0])
			case markdown && args[0] != "scenarios":
				return fmt.Errorf("list %s: --markdown is for scenarios", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "features" {
				return listFeatures(cmd.OutOrStdout())
			}
			all, err := scenario.Load(scenarios.Files)
			if err != nil {
				return err
			}
			if markdown {
				_, err = fmt.Fprint(cmd.OutOrStdout(), scenario.Markdown(all))
				return err
			}
			return listScenarios(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print scenarios as a table in Markdown")
	return cmd
}

func listScenarios(out io.Writer, all []*scenario.Scenario) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SCENARIO\tFEATURES\tCOVERS")
	for _, s := range all {
		var features []string
		for _, f := range s.Features {
			features = append(features, string(f))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, strings.Join(features, ","), strings.Join(s.Covers, ","))
	}
	return w.Flush()
}

func listFeatures(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FEATURE\tPROFILES\tMEANING")
	for _, f := range scenario.Features() {
		in := strings.Join(profilesWith(f), ",")
		if in == "" {
			in = "(claim it with --features)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f, in, f.Meaning())
	}
	return w.Flush()
}

// profilesWith are the profiles that demand a feature.
func profilesWith(f scenario.Feature) []string {
	var names []string
	for _, p := range scenario.Profiles() {
		if slices.Contains(p.Features(), f) {
			names = append(names, string(p))
		}
	}
	return names
}
