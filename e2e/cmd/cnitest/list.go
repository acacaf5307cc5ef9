package main

import (
	"fmt"
	"io"
	"os"
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
		Use:       "list scenarios|features",
		Short:     "List what a run consists of",
		Example:   "  cnitest list scenarios\n  cnitest list features",
		ValidArgs: []string{"scenarios", "features"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(cmd.ValidArgs, args[0]) {
				return fmt.Errorf("list: want one of %s, got %q", strings.Join(cmd.ValidArgs, ", "), strings.Join(args, " "))
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
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print the table of the README (scenarios)")
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
		var profiles []string
		for _, p := range scenario.Profiles() {
			if slices.Contains(p.Features(), f) {
				profiles = append(profiles, string(p))
			}
		}
		in := strings.Join(profiles, ",")
		if in == "" {
			in = "(claim it with --features)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f, in, f.Meaning())
	}
	return w.Flush()
}

func newExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "explain ID",
		Short:   "Explain a scenario: why it matters, what it does, what it covers",
		Example: "  cnitest explain host-to-pod\n  cnitest explain K01",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("explain: want one scenario or failure mode, got %d; see `cnitest list scenarios`", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := scenario.Load(scenarios.Files)
			if err != nil {
				return err
			}
			found := false
			for _, s := range all {
				if s.Name == args[0] || slices.Contains(s.Covers, args[0]) {
					fmt.Fprintln(cmd.OutOrStdout(), scenario.Explain(s))
					found = true
				}
			}
			if !found {
				return fmt.Errorf("explain: no scenario is called %q or covers it; see `cnitest list scenarios`", args[0])
			}
			return nil
		},
	}
}

func newValidateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "validate FILE…",
		Short:   "Check scenario files (*.yaml) and conflists (*.conflist, *.conf, *.json) without running anything",
		Example: "  cnitest validate scenarios/*.yaml /etc/cni/net.d/10-mynet.conflist",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("validate: want at least one file")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, file := range args {
				if err := validate(cmd.OutOrStdout(), file); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func validate(out io.Writer, file string) error {
	if strings.HasSuffix(file, ".yaml") || strings.HasSuffix(file, ".yml") {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if _, err := scenario.Parse(file, data); err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s: valid scenario\n", file)
		return err
	}
	return validateConflist(out, file)
}
