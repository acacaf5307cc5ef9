package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/bench"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
	"github.com/cnitest/cnitest/e2e/scenario"
)

const benchLong = `Bench measures what the calls of a chain of plugins cost: one at a time, many at once, and with more
and more attachments on the node. Beside the chain, in turn, the same is measured of a chain that does
nothing (noop: upstream's static without an address), and of upstream's ptp, bridge and macvlan with
host-local, those of which the binaries are in --bin-dir. Traffic between nodes, pods and, with
--profile kubernetes, a service is measured beside a bare veth pair, ptp and bridge.

Each chain has a node of its own, made of namespaces: nothing on this machine changes. A call's time is
that of its plugins, each from the start of its process to its end, as libcni runs them.

Milliseconds are those of this machine. Ratios to noop hold on other machines too, and only such are
compared by cnitest bench diff. A busy machine makes intervals wide, and the tables say how wide.

The whole is over after --duration, or sooner with few --rounds. What did not fit is listed as not
measured, with the reason.
The progress goes to standard error, the tables to standard output, and bench.json, bench.md and
bench.html to the directory of --out.

Exit status: 0 measured, 1 a call of the chain failed, 2 the command line or a file is wrong, 3 this
machine cannot run it or the lab failed, 130 for Ctrl-C, after which the files have what was measured.`

const benchExamples = `  cnitest bench net.d/10-mynet.conflist --bin-dir bin
  cnitest bench net.d/10-mynet.conflist --bin-dir bin --out out && xdg-open out/bench.html
  cnitest bench net.d/10-mynet.conflist --bin-dir bin --duration 10m --attachments 10,100,1000,3000
  cnitest bench net.d/10-mynet.conflist --bin-dir bin --rounds 10 --callers 8 --attachments 10
  cnitest bench diff main/bench.json out/bench.json`

// benchFlags are the flags of bench.
type benchFlags struct {
	binDir, out, profile string
	duration             time.Duration
	rounds               int
	callers, attachments []int
	datapath             bool
	node                 nodeFlags
}

func newBenchCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:     "bench CONFLIST",
		Short:   "Measure what calls and traffic of a chain cost, beside noop and upstream's plugins",
		Long:    benchLong,
		Example: benchExamples,
		Args:    oneConflist,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := f.node.network.load(args[0])
			if err != nil {
				return err
			}
			return asRoot(func() error { return f.run(cmd.Context(), list, cmd.OutOrStdout(), cmd.ErrOrStderr()) })
		},
	}
	f.add(cmd.Flags())
	cmd.AddCommand(benchCommands()...)
	return cmd
}

func (f *benchFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.binDir, "bin-dir", defaultBinDir,
		"directory of the plugins' binaries, including those they delegate to")
	flags.StringVar(&f.out, "out", "", "directory for bench.json, bench.md and bench.html")
	flags.DurationVar(&f.duration, "duration", 110*time.Second, "time for the whole, at least 5s")
	flags.IntVar(&f.rounds, "rounds", 100,
		"how often each call is measured at most, 6 to 100: with few, it ends before --duration")
	flags.IntSliceVar(&f.callers, "callers", []int{2, 8, 64}, "numbers of calls at once, beside one at a time")
	flags.IntSliceVar(&f.attachments, "attachments", []int{10, 100, 1000, 3000},
		"numbers of attachments on the node, of which the first stands from the beginning")
	flags.BoolVar(&f.datapath, "datapath", true, "measure traffic between nodes and pods, too")
	flags.StringVar(&f.profile, "profile", string(scenario.ProfileUnderlay),
		"features that the plugin must have: with kubernetes, traffic to a service is measured, too")
	f.node.add(flags)
}

// check checks the flags, by themselves and for a network.
func (f *benchFlags) check(list *conflist.File) error {
	if f.duration < 5*time.Second {
		return fmt.Errorf("--duration %s: want 5s or more", f.duration)
	}
	if err := inRange("rounds", f.rounds, 6, 100); err != nil {
		return err
	}
	for _, numbers := range []struct {
		flag        string
		list        []int
		least, most int
	}{{"callers", f.callers, 1, 256}, {"attachments", f.attachments, 0, 10000}} {
		if len(numbers.list) == 0 {
			return fmt.Errorf("--%s: want a number", numbers.flag)
		}
		slices.Sort(numbers.list)
		for _, n := range numbers.list {
			if err := inRange(numbers.flag, n, numbers.least, numbers.most); err != nil {
				return err
			}
		}
	}
	f.callers, f.attachments = slices.Compact(f.callers), slices.Compact(f.attachments)
	if profiles := scenario.Profiles(); !slices.Contains(profiles, scenario.Profile(f.profile)) {
		return fmt.Errorf("--profile %q: want one of %v", f.profile, profiles)
	}
	if err := isDir("--bin-dir", f.binDir); err != nil {
		return err
	}
	if err := f.node.check(list, []scenario.Node{{Name: "a"}}); err != nil {
		return err
	}
	return list.MissingBinaries(f.binDir)
}

func (f *benchFlags) run(ctx context.Context, list *conflist.File, out, progress io.Writer) error {
	if err := f.check(list); err != nil {
		return err
	}
	if f.out != "" {
		if err := os.MkdirAll(f.out, 0o755); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	ctx, stop := untilSignal(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	begin := time.Now()
	doc, err := bench.Run(ctx, bench.Options{
		Request: cluster.Request{
			Conflist: list, BinDir: f.binDir, Uplink: f.node.uplink, UplinkKind: f.node.uplinkKind,
			Target: cluster.WithDHCP(list, f.node.target), Lease: f.node.network.lease,
			Subnets: f.node.network.lan, Gateways: f.node.network.routers,
		},
		Node:    scenario.Node{NICs: f.node.nics, RPFilter: &f.node.rpFilter},
		Backend: newBackend(), Duration: f.duration, Rounds: f.rounds, Callers: f.callers,
		Attachments: f.attachments,
		Traffic:     f.datapath, Services: f.profile == string(scenario.ProfileKubernetes), Version: version(),
		Tell: func(text string) {
			fmt.Fprintf(progress, "%5.1fs  %s\n", time.Since(begin).Seconds(), text)
		},
	})
	if len(doc.Calls) > 0 {
		if err := errors.Join(f.show(doc, out)); err != nil {
			return err
		}
	}
	var failed *bench.CallError
	switch s := signalOf(ctx); {
	case s != nil:
		return &exitError{s.status(), fmt.Errorf("bench: %w", s)}
	case errors.As(err, &failed):
		return &exitError{exitNotConformant, fmt.Errorf("bench: %w", failed)}
	case err != nil:
		return &exitError{exitUnfit, fmt.Errorf("bench: %w", err)}
	}
	return nil
}

// show prints the tables and writes the files.
func (f *benchFlags) show(doc *benchmark.Benchmark, out io.Writer) error {
	if err := doc.Print(out); err != nil || f.out == "" {
		return err
	}
	if err := doc.WriteDir(f.out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "page: %s\n", filepath.Join(f.out, benchmark.HTMLName))
	return err
}
