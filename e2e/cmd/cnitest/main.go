// Command cnitest says whether a CNI plugin for underlay networks does what its users rely on.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	exitConformant    = 0
	exitNotConformant = 1
	exitUsage         = 2
	exitUnfit         = 3
)

// exitError ends the program with a status; its error, when there is one, is printed first.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() {
	os.Exit(run(os.Args))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRootCommand()
	root.SetArgs(args[1:])
	if filepath.Base(args[0]) == cnitoolName {
		// In a lab without a cnitool of its own this program takes its place.
		root.SetArgs(append([]string{cnitoolName}, args[1:]...))
	}
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitConformant
	}
	// What is wrong with the command line or a file is everybody's error; the others say their status.
	end := &exitError{status: exitUsage, err: err}
	errors.As(err, &end)
	if end.err != nil {
		fmt.Fprintf(os.Stderr, "cnitest: %v\n", end.err)
	}
	return end.status
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cnitest",
		Short: "Conformance tests for CNI plugins of underlay networks",
		Long: `cnitest takes a conflist and the binaries of its plugins, attaches pods on nodes that it makes from network
namespaces, sends traffic between them, deletes everything again, and says what worked.

Exit status: 0 conformant (or partial without --strict), 1 not conformant, 2 the command line or a file is
wrong, 3 this machine cannot run it.`,
		Example: `  cnitest run /etc/cni/net.d/10-mynet.conflist --bin-dir /opt/cni/bin
  cnitest run my.conflist --bin-dir ./bin --scenario 'del-*' --report-dir out
  cnitest lab my.conflist --bin-dir ./bin`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newRunCommand(), newListCommand(), newExplainCommand(), newValidateCommand(), newDoctorCommand(), newLabCommand(),
		newCnitoolCommand(), newAgentCommand())
	return root
}

// stamp is set by the linker for releases.
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
