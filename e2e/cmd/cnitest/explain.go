package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

func newExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain ID",
		Short: "Explain a scenario, a feature or a failure mode",
		Long: `Explain tells of a scenario why it matters, what it needs and what it does, step by step; of a feature what it claims and
what tests it; of a failure mode which scenarios would catch it.`,
		Example: "  cnitest explain host-to-pod\n  cnitest explain HostToPod\n  cnitest explain K01",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("explain: want one scenario, feature or failure mode, e.g. host-to-pod, HostToPod, K01")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := scenario.Load(scenarios.Files)
			if err != nil {
				return err
			}
			return explain(cmd.OutOrStdout(), all, args[0])
		},
	}
}

// leavesNothing explains the one result that no scenario has alone.
const leavesNothing = `leaves-nothing

  Once everything that a scenario attached is deleted, twice, every node looks as it did before: links, addresses, routes, rules,
  permanent neighbours, qdiscs, nftables, iptables, sysctls, mounts, processes and files. What stays is laid at the door of
  the plugin after whose call it came. A first pod may leave something new once, such as a shared link or a lock file; that
  is listed apart. What grows with each pod fails, and so does what stood on the node before and is gone or different.

covers
  DEL-1, E07; after every scenario
`

func explain(out io.Writer, all []*scenario.Scenario, id string) error {
	if id == "leaves-nothing" {
		_, err := fmt.Fprint(out, leavesNothing)
		return err
	}
	for _, s := range all {
		if strings.EqualFold(s.Name, id) {
			_, err := fmt.Fprint(out, scenario.Explain(s))
			return err
		}
	}
	for _, f := range scenario.Features() {
		if strings.EqualFold(string(f), id) {
			return explainFeature(out, all, f)
		}
	}
	covering := slices.DeleteFunc(slices.Clone(all), func(s *scenario.Scenario) bool {
		return !slices.ContainsFunc(s.Covers, func(c string) bool { return strings.EqualFold(c, id) })
	})
	if len(covering) == 0 {
		return fmt.Errorf("explain %q: no scenario, feature or failure mode of that name; see cnitest list scenarios and cnitest list features", id)
	}
	fmt.Fprintf(out, "%s is caught by %s\n", strings.ToUpper(id), names(covering))
	for _, s := range covering {
		fmt.Fprintf(out, "\n%s", scenario.Explain(s))
	}
	return nil
}

func explainFeature(out io.Writer, all []*scenario.Scenario, f scenario.Feature) error {
	in := "no profile; it counts where it is claimed with run --features " + string(f)
	if profiles := profilesWith(f); profiles != nil {
		in = strings.Join(profiles, ", ")
	}
	testing := slices.DeleteFunc(slices.Clone(all), func(s *scenario.Scenario) bool { return !slices.Contains(s.Features, f) })
	tests := "no scenario yet"
	if len(testing) > 0 {
		tests = strings.ReplaceAll(names(testing), ", ", "\n  ")
	}
	_, err := fmt.Fprintf(out, "%s\n\n  %s\n\ndemanded by\n  %s\n\ntested by\n  %s\n", f, f.Meaning(), in, tests)
	return err
}

func names(list []*scenario.Scenario) string {
	var words []string
	for _, s := range list {
		words = append(words, s.Name)
	}
	return strings.Join(words, ", ")
}
