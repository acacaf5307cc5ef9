package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/backend/kind"
	"github.com/cnitest/cnitest/e2e/conflist"
)

const kindBackend = "kind"

// kindFlags are the flags about a Kubernetes cluster.
type kindFlags struct{ kubeconfig, kubeContext, image string }

func (f *kindFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "with --backend kind: the cluster (default kubectl's)")
	flags.StringVar(&f.kubeContext, "context", "", "with --backend kind: the context of the kubeconfig")
	flags.StringVar(&f.image, "image", "", "with --backend kind: image of this program that the nodes can pull "+
		"(default made here, for kind's nodes)")
}

// check returns an error if there are flags about a cluster for another backend.
func (f kindFlags) check(backend string) error {
	if backend != kindBackend && f != (kindFlags{}) {
		return fmt.Errorf("--kubeconfig, --context and --image are for --backend %s, got --backend %s", kindBackend,
			backend)
	}
	return nil
}

// checkKind checks the flags without the files.
func (f *runFlags) checkKind() error {
	switch {
	case f.backend == kindBackend && (f.node.uplinkKind != "veth" || f.node.nics != 1 || f.node.uplink != ""):
		return errors.New("--uplink, --uplink-kind and --nics are for nodes that are made; a cluster's have what " +
			"they have")
	case f.backend == kindBackend && f.soak > 0:
		return errors.New("--soak calls plugins as a runtime does; a cluster has its own")
	}
	return f.kind.check(f.backend)
}

func (f *runFlags) kindOptions(list *conflist.File) kind.Options {
	return kind.Options{
		Kubeconfig: f.kind.kubeconfig, Context: f.kind.kubeContext, Image: f.kind.image, Conflist: list,
		Binary: selfPath,
		Log:    func(text string) { fmt.Fprintln(os.Stderr, text) },
	}
}

// doctorKind prints the conditions that runs on a cluster depend on.
func doctorKind(ctx context.Context, k kindFlags, out io.Writer) error {
	f := findings{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	defer f.w.Flush()
	for _, found := range kind.Doctor(ctx, kind.Options{Kubeconfig: k.kubeconfig, Context: k.kubeContext}) {
		f.add(found.OK, found.What, found.Cost)
	}
	return nil
}

func newNodeAgentCommand() *cobra.Command {
	return &cobra.Command{
		Use:    kind.NodeAgentCommand + " [ROOT]",
		Short:  "Serve as the agent of a cluster's node, on standard input and output (started by the kind backend)",
		Hidden: true,
		Args:   cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return kind.NodeAgentMain(append(args, "")[0], os.Stdin, os.Stdout)
		},
	}
}

func newPodCommand() *cobra.Command {
	var options kind.PodOptions
	cmd := untilTold(kind.PodCommand, "Be a pod (started by kubelets)", func(ctx context.Context) error {
		return kind.PodMain(ctx, options)
	})
	cmd.Flags().Uint16Var(&options.Answer, "answer", 0, "port on which to answer probes over TCP")
	cmd.Flags().DurationVar(&options.Linger, "linger", 0, "how long to go on when told to end")
	return cmd
}

func newHoldCommand() *cobra.Command {
	return untilTold(kind.HoldCommand, "Wait on a node of a cluster (started by kubelets)", kind.Hold)
}

// untilTold returns a command that runs until a signal.
func untilTold(name, short string, do func(context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return do(ctx)
		},
	}
}
