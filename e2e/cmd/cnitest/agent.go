package main

import (
	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/backend/netns"
)

// agentCommand is the argument by which this program becomes an agent.
const agentCommand = "agent"

func newAgentCommand() *cobra.Command {
	return &cobra.Command{
		Use:    agentCommand + " CONFIG",
		Short:  "Serve as a node's agent on standard input and output (started by backends)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return netns.ChildMain(args[0]) },
	}
}
