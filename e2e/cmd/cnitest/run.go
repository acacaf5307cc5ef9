package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2/formatter"
	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// runFlags are the flags of run.
type runFlags struct {
	binDir, backend, profile, names, labels, reportDir, uplink, uplinkKind string
	plugins, claims                                                        []string
	strict, keep                                                           bool
	workers                                                                int
}

func newRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run CONFLIST",
		Short: "Run the scenarios on a conflist and print a verdict",
		Long: `Run makes a cluster for each scenario, runs the plugins of the conflist on it as a kubelet's runtime would, and compares
what happens with what the scenario says. Afterwards everything is deleted twice, and every node must look as before.

Nothing is changed on this machine: nodes and pods are namespaces that end with this process. As an ordinary user it
runs in a user namespace of its own.`,
		Example: `  cnitest run net.d/10-mynet.conflist --bin-dir bin
  cnitest run net.d/10-mynet.conflist --bin-dir bin --scenario host-to-pod --keep-on-failure
  cnitest run net.d/10-mynet.conflist --bin-dir bin --label-filter 'A01 || CleanUp' --report-dir out`,
		Args: oneConflist,
		RunE: func(cmd *cobra.Command, args []string) error {
			return asRoot(func() error { return f.run(cmd.Context(), args[0], cmd.OutOrStdout()) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.binDir, "bin-dir", "/opt/cni/bin", "directory of the plugins' binaries, delegated ones included")
	flags.StringVar(&f.backend, "backend", "netns", "how nodes are made: netns")
	flags.StringVar(&f.profile, "profile", string(scenario.ProfileUnderlay), "features that the plugin must have: cni, underlay or kubernetes")
	flags.StringSliceVar(&f.claims, "features", nil, "features claimed beyond the profile, or all (see `cnitest list features`)")
	flags.StringSliceVar(&f.plugins, "plugin", nil, "types under test (default those of the chain that upstream does not ship)")
	flags.StringVar(&f.names, "scenario", "", "pattern of scenario names to run, e.g. 'del-*'")
	flags.StringVar(&f.labels, "label-filter", "", "labels to run, in Ginkgo's language: features, failure modes, core, extended")
	flags.StringVar(&f.reportDir, "report-dir", "", "directory for report.json, junit.xml and the evidence of failures")
	flags.StringVar(&f.uplink, "uplink", "", "the nodes' interface on the underlay (default what the conflist names)")
	flags.StringVar(&f.uplinkKind, "uplink-kind", "veth", "kind of that interface: veth, bridge or dummy")
	flags.BoolVar(&f.strict, "strict", false, "exit 1 on the verdict partial, too")
	flags.BoolVar(&f.keep, "keep-on-failure", false, "hold the lab of the first failed scenario open and say how to enter it")
	flags.IntVar(&f.workers, "workers", 0, "scenarios to run at once (default twice the number of processors)")
	return cmd
}

// oneConflist wants exactly one argument and says so in a sentence.
func oneConflist(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want the path of one conflist, got %d arguments; see --help", len(args))
	}
	return nil
}

func (f *runFlags) run(ctx context.Context, conflist string, out io.Writer) error {
	if f.backend != "netns" {
		return fmt.Errorf("backend %q: want netns", f.backend)
	}
	show := newProgress(out)
	options := e2e.Options{
		Conflist: conflist, BinDir: f.binDir, Backend: newBackend(), Profile: scenario.Profile(f.profile), Plugins: f.plugins,
		Names: f.names, ReportDir: f.reportDir, Uplink: f.uplink, UplinkKind: f.uplinkKind, Workers: f.workers, Version: version(),
		Started: show.started, Done: show.done,
	}
	if f.keep {
		options.Workers = 1
		options.Failed = func(r report.Result, c cluster.Cluster) { holdOpen(ctx, show, r, c) }
	}
	for _, claim := range f.claims {
		if claim == "all" {
			options.Claims = scenario.Features()
			break
		}
		options.Claims = append(options.Claims, scenario.Feature(claim))
	}
	suite, err := e2e.New(options)
	if err != nil {
		return err
	}
	// Ginkgo's own account of the specs would stand between the lines of the progress.
	formatter.ColorableStdOut = io.Discard
	show.begin(conflist, len(suite.Scenarios()))
	result, err := suite.RunSpecs(f.labels)
	show.end()
	var unfit *e2e.UnfitError
	switch {
	case errors.As(err, &unfit):
		return &exitError{exitUnfit, err}
	case err != nil:
		return err
	}
	printSummary(out, result, f.reportDir)
	return f.status(result)
}

func (f *runFlags) status(r *report.Report) error {
	switch {
	case r.Verdict == report.NotConformant, r.Verdict == report.Partial && f.strict:
		return &exitError{status: exitNotConformant}
	case r.Verdict == report.EnvUnfit:
		return &exitError{status: exitUnfit}
	}
	return nil
}

// printSummary is what a person reads at the end.
func printSummary(out io.Writer, r *report.Report, dir string) {
	var types []string
	for _, p := range r.Implementation.Plugins {
		name := p.Type
		if p.UnderTest {
			name += "*"
		}
		types = append(types, name)
	}
	fmt.Fprintf(out, "\nverdict: %s   %s (CNI %s, profile %s, * under test)\n", r.Verdict, strings.Join(types, " + "), r.Implementation.CNIVersion, r.Profile)
	var counts []string
	for _, o := range []report.Outcome{report.Pass, report.Fail, report.Vacuous, report.Skipped, report.NotApplicable, report.NotClaimed, report.KnownUpstream} {
		if n := r.Count(o); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, o))
		}
	}
	fmt.Fprintf(out, "%s in %.1fs\n", strings.Join(counts, ", "), r.DurationSeconds)
	for _, f := range r.Findings() {
		fmt.Fprintf(out, "finding about %s, which is not under test: %s: %s\n", f.Plugin, f.ID, f.Reason)
	}
	printResidue(out, r.Residue)
	if dir != "" {
		fmt.Fprintf(out, "report: %s\n", filepath.Join(dir, "report.json"))
	} else if r.Count(report.Fail) > 0 {
		fmt.Fprintln(out, "for the evidence run again with --report-dir DIR")
	}
}

// printResidue names what stays for each plugin, in a line.
func printResidue(out io.Writer, residue []report.Residue) {
	byPlugin := map[string][]string{}
	for _, r := range residue {
		byPlugin[r.Plugin] = append(byPlugin[r.Plugin], r.Item)
	}
	for _, plugin := range slices.Sorted(maps.Keys(byPlugin)) {
		fmt.Fprintf(out, "stays on a node after its first pod, once (%s): %s\n", plugin, strings.Join(byPlugin[plugin], ", "))
	}
}

// holdOpen keeps a cluster until the user interrupts.
func holdOpen(ctx context.Context, show *progress, r report.Result, c cluster.Cluster) {
	show.end()
	fmt.Fprintf(os.Stdout, "\n%s failed: %s\nits lab is open; enter it as root from another terminal:\n", r.ID, r.Reason)
	for _, line := range waysIn(c) {
		fmt.Fprintf(os.Stdout, "  %s\n", line)
	}
	fmt.Fprintln(os.Stdout, "Ctrl-C ends it.")
	<-ctx.Done()
}
