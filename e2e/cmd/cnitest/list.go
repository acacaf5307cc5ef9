package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

func newListCommand() *cobra.Command {
	var markdown bool
	var section string
	cmd := &cobra.Command{
		Use:   "list scenarios|requirements|sentences|features|failure-modes",
		Short: "List what a run consists of",
		Long: `List scenarios shows the scenarios of a run, with the features and failure modes that each covers;
run --label-filter takes both. List requirements shows the sentences of the CNI specification that
each plugin is tested on, alone. List sentences shows every sentence of the specification and of its
conventions that demands, recommends or allows something, in other words, with whom it binds and the
requirements that ask it, or why none does; --section 2.GC shows those of one section. List features
shows what a plugin can claim, and the profiles that demand it. List failure-modes shows how plugins
failed their users, and what would have noticed it.`,
		Example: "  cnitest list scenarios\n  cnitest list requirements\n  cnitest list sentences --section 2.GC\n" +
			"  cnitest list failure-modes",
		ValidArgs: []string{"scenarios", "requirements", "sentences", "features", "failure-modes"},
		Args: func(cmd *cobra.Command, args []string) error {
			what := strings.Join(cmd.ValidArgs[:len(cmd.ValidArgs)-1], ", ") + " or " +
				cmd.ValidArgs[len(cmd.ValidArgs)-1]
			switch {
			case len(args) == 0:
				return fmt.Errorf("list: want %s", what)
			case len(args) > 1 || !slices.Contains(cmd.ValidArgs, args[0]):
				return fmt.Errorf("list: want %s, got %q", what, strings.Join(args, " "))
			case markdown && args[0] != "scenarios":
				return fmt.Errorf("list %s: --markdown is for scenarios", args[0])
			case section != "" && args[0] != "sentences":
				return fmt.Errorf("list %s: --section is for sentences", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "features":
				return listFeatures(cmd.OutOrStdout())
			case "requirements":
				return listRequirements(cmd.OutOrStdout())
			case "sentences":
				return listSentences(cmd.OutOrStdout(), section)
			}
			all, err := scenario.Load(scenarios.Files)
			if err != nil {
				return err
			}
			if args[0] == "failure-modes" {
				return listFailureModes(cmd.OutOrStdout(), all)
			}
			if markdown {
				_, err = fmt.Fprint(cmd.OutOrStdout(), scenario.Markdown(all))
				return err
			}
			return listScenarios(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print scenarios as a table in Markdown")
	cmd.Flags().StringVar(&section, "section", "", "list the sentences of a section, e.g. 5, 2.GC or C.args")
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

func listRequirements(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REQUIREMENT\tLEVEL\tSECTION\tOF\tSINCE\tSENTENCE")
	for _, r := range contract.Requirements() {
		since := r.Since
		if since == "" {
			since = "0.1.0"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Level, r.Section, roles(r), since, r.Text)
	}
	return w.Flush()
}

func roles(r *contract.Requirement) string {
	var names []string
	for _, role := range r.Roles {
		names = append(names, string(role))
	}
	return strings.Join(names, ",")
}

func listFailureModes(out io.Writer, all []*scenario.Scenario) error {
	modes, err := contract.FailureModes()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODE\tBACKENDS\tCAUGHT BY\tSYMPTOM")
	for _, m := range modes {
		by, symptom := strings.Join(catching(all, m.ID), ","), m.Symptom
		if by == "" {
			by = "-"
		}
		if m.Uncovered != "" {
			symptom += " (uncovered: " + m.Uncovered + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.ID, strings.Join(m.Backends, ","), by, symptom)
	}
	return w.Flush()
}

// catching returns the scenarios and requirements that would notice a failure mode.
func catching(all []*scenario.Scenario, id string) []string {
	var names []string
	for _, s := range all {
		if slices.Contains(s.Covers, id) {
			names = append(names, s.Name)
		}
	}
	for _, r := range contract.Covering(id) {
		names = append(names, r.ID)
	}
	return names
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

// profilesWith returns the profiles that demand a feature.
func profilesWith(f scenario.Feature) []string {
	var names []string
	for _, p := range scenario.Profiles() {
		if slices.Contains(p.Features(), f) {
			names = append(names, string(p))
		}
	}
	return names
}
