// Command cnitest says whether a CNI plugin for underlay networks does what its users rely on.
//
// It does little itself: package e2e runs the scenarios, the netns backend makes the lab, and package scenario explains
// scenarios. The command implements the command line, the output during a run, and the shell in a lab.
//
// Run its tests: go test ./e2e/cmd/cnitest
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// These are the exit statuses. A signal adds its number to signalStatus, as in shells.
const (
	exitConformant    = 0
	exitNotConformant = 1
	exitUsage         = 2
	exitUnfit         = 3
	signalStatus      = 128
)

// exitError ends the program with a status; its error, if there is one, is printed first.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() {
	os.Exit(run(os.Args))
}

func run(args []string) int {
	root, name := newRootCommand(), "cnitest"
	root.SetArgs(args[1:])
	if filepath.Base(args[0]) == cnitoolName {
		// In a lab without a cnitool this program acts as one.
		name = cnitoolName
		root.SetArgs(append([]string{cnitoolName}, args[1:]...))
	}
	err := root.Execute()
	if err == nil {
		return exitConformant
	}
	// Any other error means that the command line or a file is wrong.
	end := &exitError{status: exitUsage, err: err}
	errors.As(err, &end)
	printError(os.Stderr, name, end.err)
	return end.status
}

// printError prints an error, each line of which may be a separate problem.
func printError(out io.Writer, name string, err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasSuffix(line, ": "+syscall.EISDIR.Error()) {
			line += "; name a file in it"
		}
		fmt.Fprintf(out, "%s: %s\n", name, line)
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cnitest",
		Short: "Conformance tests for CNI plugins of underlay networks",
		Long: `cnitest takes a conflist and the binaries of its plugins, attaches pods on nodes that it makes from
network namespaces, sends traffic between them, deletes everything again, and says what worked.
Nothing changes on this machine, and no rights are needed if unprivileged user namespaces are
allowed.

Exit status: 0 conformant (or partial without --strict), 1 not conformant, 2 the command line or a
file is wrong, 3 this machine cannot run it or the lab failed, 128 and the signal's number when a
signal ended it (130 for Ctrl-C).`,
		Example: `  cnitest doctor                                             what this machine can run
  cnitest run my.conflist --bin-dir ./bin                    a verdict
  cnitest run my.conflist --bin-dir ./bin --report-dir out   and the evidence of what failed
  cnitest explain host-to-pod                                why a scenario matters, and what it does
  cnitest lab my.conflist --bin-dir ./bin                    a shell on a node of the same lab
  cnitest runtime cnitool --bin-dir ./bin                    a verdict about a runtime`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q; see cnitest --help", args[0])
			}
			return nil
		},
		// With a function the command checks its arguments.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newRunCommand(), newListCommand(), newExplainCommand(), newValidateCommand(), newDoctorCommand(),
		newLabCommand(), newBenchCommand(), newRuntimeCommand(),
		newCnitoolCommand(), newReportCommand(), newInitCommand(), newAgentCommand(), newNodeAgentCommand(),
		newPodCommand(), newHoldCommand(), newKeeperCommand(), newManCommand())
	completeValues(root)
	refuseUnknown(root)
	return root
}

// refuseUnknown makes the commands that cobra brings refuse what they do not know; they print a help page and succeed.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if _, rest, _ := root.Find(args); len(rest) > 0 {
					return fmt.Errorf("help: unknown command %q; see cnitest --help", rest[0])
				}
				return nil
			}
		case "completion":
			cmd.Args, cmd.RunE = func(_ *cobra.Command, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("completion: unknown shell %q; see cnitest completion --help", args[0])
				}
				return nil
			}, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

// flagError says which command explains a flag, and in words what lists of numbers want.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	var number *strconv.NumError
	if errors.As(err, &invalid) && errors.As(err, &number) {
		err = fmt.Errorf("--%s %q: want numbers, separated by commas", invalid.GetFlag().Name, invalid.GetValue())
	}
	return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
}

// The linker sets stamp for releases.
var stamp string

func version() string {
	if stamp != "" {
		return stamp
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
