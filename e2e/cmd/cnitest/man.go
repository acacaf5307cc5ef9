package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

// newManCommand writes man pages. It is for packages, and not listed.
func newManCommand() *cobra.Command {
	var date string
	cmd := &cobra.Command{
		Use:    "man DIR",
		Short:  "Write a man page for each command into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			when, err := time.Parse(time.DateOnly, date)
			if err != nil {
				return fmt.Errorf("--date: %w", err)
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{
				Section: "1", Source: "cnitest " + version(), Manual: "cnitest", Date: &when,
			}, args[0])
		},
	}
	// Without a fixed date a package would differ from day to day.
	cmd.Flags().StringVar(&date, "date", "2026-01-01", "date of the pages")
	return cmd
}

// completeValues lets shells complete the values of flags and the arguments of commands that are words of a list.
func completeValues(root *cobra.Command) {
	values := map[string][]string{
		"profile": texts(scenario.Profiles()), "features": append(texts(scenario.Features()), "all"),
		"backend": backends(), "dataplane": dataplanes(), "uplink-kind": netns.UplinkKinds(),
	}
	for _, cmd := range root.Commands() {
		for name, list := range values {
			if name == "backend" && cmd.Name() == "doctor" {
				list = []string{netnsBackend, kindBackend}
			}
			if cmd.Flags().Lookup(name) != nil {
				_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(list,
					cobra.ShellCompDirectiveNoFileComp))
			}
		}
		if cmd.Flags().Lookup("scenario") != nil {
			_ = cmd.RegisterFlagCompletionFunc("scenario", completeIDs)
		}
		if cmd.Name() == "explain" {
			cmd.ValidArgsFunction = completeIDs
		}
	}
}

// completeIDs returns the scenarios and requirements that begin with a text.
func completeIDs(_ *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	var found []string
	all, err := scenario.Load(scenarios.Files)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	for _, s := range all {
		found = append(found, s.Name)
	}
	for _, r := range contract.Requirements() {
		found = append(found, r.ID)
	}
	return slices.DeleteFunc(found, func(id string) bool { return !strings.HasPrefix(id, begin) }),
		cobra.ShellCompDirectiveNoFileComp
}

// texts returns the words of a list.
func texts[T ~string](words []T) []string {
	list := make([]string, 0, len(words))
	for _, w := range words {
		list = append(list, string(w))
	}
	return list
}
