package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/onsi/ginkgo/v2/formatter"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/soak"
	"github.com/cnitest/cnitest/e2e/lab/kubeproxy"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
)

const runLong = `CONFLIST is a configuration list (.conflist), the configuration of one plugin (.conf), or a YAML or
JSON file with NetworkAttachmentDefinitions, as kubectl reads and prints them. All networks of such a
file are run, or the one that --network names.

Run makes a cluster for each scenario, runs the plugins of the conflist on it as the runtime of a
kubelet would, and compares what happens with what the scenario says. Then it deletes everything
twice, and checks that every node is as it was before. It also checks each plugin alone against the
sentences of the CNI specification (cnitest list requirements).

Nothing changes on this machine: nodes and pods are namespaces that end with this process. For an
ordinary user it runs in a user namespace of its own.

The verdict is about the plugins under test: all plugins of the chain that upstream does not ship,
or those named with --plugin. A profile is the set of features that they must have. Other features
count only if they are claimed with --features.

Time limits count only the time that the machine gave. A test that fails while the machine is too
busy runs a second time, alone, and the report says so. If it fails again, it is a failure, unless
the machine is still too busy: then it is skipped, and the exit status is 3.

With --soak, pods come and go on two nodes for that long, while flows run between other pods: no two
pods may have the same address, every attached pod must answer and pass CHECK, no flow may lose
anything, and nothing may stay behind. The soak ends at the first failure.

Ctrl-C ends a run early. The report then has what ran until then, with the verdict partial unless
something failed.`

const runExamples = `  cnitest run net.d/10-mynet.conflist --bin-dir bin
  cnitest run net.d/10-mynet.conflist --bin-dir bin --profile cni --features HostToPod,SecondInterface
  cnitest run net-attach-def.yaml --bin-dir bin --network default/lan
  cnitest run net.d/10-leased.conflist --bin-dir bin --subnet 10.1.0.0/16 --gateway 10.1.0.254
  cnitest run net.d/20-mynet.conflist --bin-dir bin --with net.d/10-pods.conflist
  cnitest run net.d/10-mynet.conflist --bin-dir bin --scenario 'del-*'
  cnitest run net.d/10-mynet.conflist --bin-dir bin --scenario-file my-bug.yaml --scenario my-bug
  cnitest run net.d/10-mynet.conflist --bin-dir bin --label-filter 'A01 || CleanUp' --report-dir out
  cnitest run net.d/10-mynet.conflist --bin-dir bin --label-filter 'contract && mynet'
  cnitest run net.d/10-mynet.conflist --bin-dir bin --section 2.GC
  cnitest run net.d/10-mynet.conflist --bin-dir bin --old-bin-dir bin-v1.2 --scenario 'upgrade-*'
  cnitest run net.d/10-mynet.conflist --bin-dir bin --cni-version 0.4.0
  cnitest run net.d/10-mynet.conflist --bin-dir bin --scenario host-to-pod --keep-on-failure
  cnitest run net.d/10-mynet.conflist --bin-dir bin --fail-fast --report-dir out
  cnitest run net.d/10-mynet.conflist --bin-dir bin --failed out
  cnitest run net.d/10-mynet.conflist --bin-dir bin --repeat 20
  cnitest run net.d/10-mynet.conflist --bin-dir bin --soak 10m --soak-pods 40`

func newRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:     "run CONFLIST",
		Short:   "Run scenarios and requirements on a conflist and print a verdict",
		Long:    runLong,
		Example: runExamples,
		Args:    oneConflist,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.done != "" && f.reportDir == "" {
				return errors.New("--done says where the report is: want --report-dir, too")
			}
			if err := checkOutput("--done", f.done); err != nil {
				return err
			}
			err := f.start(cmd, args)
			return cmp.Or(f.handOver(err), err)
		},
	}
	f.add(cmd.Flags())
	return cmd
}

// start runs the networks of the file.
func (f *runFlags) start(cmd *cobra.Command, args []string) error {
	if f.soak == 0 && cmd.Flags().Changed("soak-pods") {
		return errors.New("--soak-pods without --soak: say how long with --soak, e.g. --soak 10m")
	}
	if err := f.loadExpectation(cmd.Flags()); err != nil {
		return err
	}
	networks, err := f.node.network.networks(args[0])
	switch {
	case err != nil:
		return err
	case len(networks) > 1 && f.failed != "":
		return errors.New("--failed with several networks: choose one with --network, and its report")
	case len(networks) > 1:
		return runEach(cmd.Context(), networks, f.reportDir, os.Args[1:], cmd.OutOrStdout())
	case f.backend != netnsBackend:
		// The work is done elsewhere.
		return f.run(cmd.Context(), networks[0], cmd.OutOrStdout())
	}
	return asRoot(func() error { return f.run(cmd.Context(), networks[0], cmd.OutOrStdout()) })
}

// oneConflist returns an error unless there is exactly one argument.
func oneConflist(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0, args[0] == "":
		return fmt.Errorf("%s: want the path of a conflist; see %s --help", cmd.Name(), cmd.CommandPath())
	case len(args) > 1:
		return fmt.Errorf("%s: want one conflist, got %q too", cmd.Name(), args[1])
	}
	return nil
}

func (f *runFlags) run(ctx context.Context, list *conflist.File, out io.Writer) (err error) {
	if err := f.check(list); err != nil {
		return err
	}
	if err := errors.Join(f.readEarlier(), f.chooseSection(), f.readToken(), f.readShard(), f.readOwn()); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if f.reportFD > 0 {
		// Agents must not hold it open.
		unix.CloseOnExec(f.reportFD)
	}
	if f.repeat > 1 {
		return f.repeatAll(ctx, os.Args[1:], out)
	}
	show := newProgress(ctx, out)
	show.each = f.each
	defer show.end()
	backend, closeBackend, err := f.openBackend(ctx, list)
	if err != nil {
		return err
	}
	defer func() {
		if left := closeBackend(); left != nil {
			printError(os.Stderr, "cnitest", left)
			err = cmp.Or(err, error(&exitError{status: exitUnfit}))
		}
	}()
	suite, err := e2e.New(f.options(ctx, list, backend, show))
	if err != nil {
		return err
	}
	chosen, err := suite.Matching(f.labels)
	switch {
	case err != nil && f.section != "":
		return fmt.Errorf("--section %s: %w", f.section, err)
	case err != nil:
		return err
	}
	if err := makeReportDir(f.reportDir); err != nil {
		return err
	}
	// Ginkgo's own output would stand between the lines of the progress.
	formatter.ColorableStdOut = io.Discard
	show.begin(list.Path, chosen, suite.PluginsUnderTest())
	result, err := suite.RunSpecs(ctx, f.labels)
	show.end()
	if f.timings {
		defer func() { printTimings(out, suite.Timings()) }()
	}
	return f.conclude(ctx, out, result, err)
}

// conclude prints the result of a run, and returns an error for every exit status but 0.
func (f *runFlags) conclude(ctx context.Context, out io.Writer, result *report.Report, err error) error {
	if s := signalOf(ctx); s != nil {
		if result != nil {
			printSummary(out, result, f.reportDir)
		}
		return &exitError{s.status(), errors.Join(s, err)}
	}
	var unfit *cluster.UnfitError
	switch {
	case errors.As(err, &unfit):
		return &exitError{exitUnfit, fmt.Errorf("%w; cnitest doctor shows what else is missing", err)}
	case err != nil:
		return err
	}
	if err := f.explainExpected(result); err != nil {
		return err
	}
	printSummary(out, result, f.reportDir)
	if err := f.sendReport(result); err != nil {
		return err
	}
	err = f.status(result)
	if f.expected != nil {
		err = f.compareExpected(out, result)
	}
	return cmp.Or(err, lackOf(result), labFailure(result))
}

// lackOf says that the verdict leaves out what this machine cannot do; nil where it could do everything that counts.
func lackOf(r *report.Report) error {
	lacking := slices.DeleteFunc(
		slices.Clone(r.Results),
		func(res report.Result) bool { return res.Lacks == "" || !r.Counts(res) },
	)
	if len(lacking) == 0 {
		return nil
	}
	return &exitError{
		exitUnfit,
		fmt.Errorf(
			"this machine cannot run %d of %d, first %s: it lacks %s",
			len(lacking),
			len(r.Results),
			lacking[0].ID,
			lacking[0].Lacks,
		),
	}
}

// labFailure returns an error if the lab failed for a part of the results; nil if it did not.
func labFailure(r *report.Report) error {
	failed := slices.DeleteFunc(slices.Clone(r.Results), func(res report.Result) bool { return !res.LabFailed })
	if len(failed) == 0 {
		return nil
	}
	return &exitError{exitUnfit, fmt.Errorf("the lab failed for %d of %d, first for %s: %s", len(failed),
		len(r.Results), failed[0].ID, failed[0].Reason)}
}

func backends() []string { return []string{netnsBackend, criBackend, sshBackend, kindBackend} }

func dataplanes() []string {
	return []string{service.Nftables, service.Iptables, service.IPVS, kubeproxy.Dataplane}
}

// check checks the flags, by themselves and for a network.
func (f *runFlags) check(list *conflist.File) error {
	switch {
	case !slices.Contains(backends(), f.backend):
		return fmt.Errorf("--backend %q: want %s, %s, %s or %s", f.backend, netnsBackend, criBackend, sshBackend,
			kindBackend)
	case !slices.Contains(dataplanes(), f.dataplane):
		return fmt.Errorf("--dataplane %q: want %s", f.dataplane, strings.Join(dataplanes(), " or "))
	case f.dataplane == service.IPVS && f.machinesExist():
		return fmt.Errorf("--dataplane %s is for nodes that are made; on existing machines nothing would remove its "+
			"virtual servers", f.dataplane)
	case f.workers < 0:
		return fmt.Errorf("--workers %d: want 1 or more, or 0 for four for each processor", f.workers)
	case f.repeat < 1:
		return fmt.Errorf("--repeat %d: want 1 or more", f.repeat)
	case f.repeat > 1 && f.keep:
		return errors.New("--keep-on-failure with --repeat: want one of them")
	case f.soak != 0 && f.soak < time.Second:
		return fmt.Errorf("--soak %s: want 1s or more", f.soak)
	case f.soakPods < 1:
		return fmt.Errorf("--soak-pods %d: want 1 or more", f.soakPods)
	case f.soak > 0 && (f.names != nil || f.labels != "" || f.section != "" || f.quick || f.failed != ""):
		return errors.New("--soak with --scenario, --label-filter, --section, --failed or --quick: a soak runs alone")
	case f.section != "" && f.labels != "":
		return errors.New("--section with --label-filter: want one of them")
	case f.quick && f.deep:
		return errors.New("--quick with --deep: want one of them, since --quick leaves out what --deep tries")
	case f.failFast && f.expect != "":
		return errors.New("--fail-fast with --expect: want one of them, since the run must see all that is expected")
	}
	if f.backend != netnsBackend && f.oldBinDir != "" {
		return fmt.Errorf("--old-bin-dir is of --backend %s, whose nodes' programs can be replaced; leave it out",
			netnsBackend)
	}
	if f.backend != netnsBackend && f.node.network.with != "" {
		return fmt.Errorf("--with is of --backend %s; leave it out, and pods get the lab's own network first",
			netnsBackend)
	}
	if err := errors.Join(f.checkRemote(), f.checkKind(), f.checkCRI()); err != nil {
		return err
	}
	f.node.existing = f.machinesExist()
	if f.reportFD == 0 {
		for _, warning := range list.Warnings {
			printError(os.Stderr, "warning", errors.New(warning))
		}
	}
	if err := isDir("--bin-dir", f.binDir); err != nil {
		return err
	}
	return errors.Join(f.node.check(list, []scenario.Node{{Name: "a"}, {Name: "b"}}), list.MissingBinaries(f.binDir))
}

// progressTo returns the function that prints the progress of a soak, or of the schedules of a deep run.
func (f *runFlags) progressTo(show *progress) func(text string) {
	name := "schedules"
	if f.soak > 0 {
		name = soak.ID
	}
	return func(text string) { show.tell(name, text) }
}

// readToken reads the token of --replay.
func (f *runFlags) readToken() (err error) {
	if f.replay == "" {
		return nil
	}
	if f.names != nil || f.labels != "" || f.quick || f.failed != "" || f.soak > 0 {
		return errors.New("--replay with --scenario, --label-filter, --section, --failed, --soak or --quick: a " +
			"case is replayed alone")
	}
	if f.replayed, err = contract.ParseToken(f.replay); err != nil {
		return fmt.Errorf("--replay: %w", err)
	}
	return nil
}

// chooseSection turns --section into a label filter.
func (f *runFlags) chooseSection() (err error) {
	if f.section != "" {
		f.labels, err = sectionFilter(f.section)
	}
	return err
}

// options returns the options for the flags.
func (f *runFlags) options(ctx context.Context, list *conflist.File, backend cluster.Backend,
	show *progress,
) e2e.Options {
	options := e2e.Options{
		Conflist: list.Path, Network: f.node.network.name, File: list, BinDir: f.binDir, OldBinDir: f.oldBinDir,
		Backend: backend, ImplementationVersion: f.version,
		Profile: scenario.Profile(f.profile), Plugins: f.plugins, Target: f.node.target,
		Select: e2e.Selection{
			Names: strings.Join(f.names, ","), Quick: f.quick, Failed: f.repeated, Deep: f.deep, Seed: f.seed,
			Replay: f.replayed,
			Shard:  f.part, Own: f.own,
		},
		FailFast: f.failFast, Like: f.liked,
		Soak: e2e.Soak{For: f.soak, Pods: f.soakPods},
		Nodes: e2e.Nodes{
			Uplink: f.node.uplink, UplinkKind: f.node.uplinkKind, Subnets: f.node.network.lan,
			Gateways: f.node.network.routers, Lease: f.node.network.lease,
			With:     f.node.network.other,
			RPFilter: &f.node.rpFilter, NICs: f.node.nics, Dataplane: f.dataplane,
		},
		Observe: e2e.Observer{Started: show.started, Done: show.done, Progress: f.progressTo(show)},
		Workers: f.workers, CNIVersion: f.cniVersion, ReportDir: f.reportDir, Version: version(),
	}
	var more []string
	if f.backend != netnsBackend {
		more = f.backendFlags()
	}
	if f.backend == criBackend && f.workers == 0 {
		// Each node has a containerd, and each pod a shim.
		options.Workers = 2 * runtime.NumCPU()
	}
	if f.machinesExist() {
		// A machine keeps its own reverse path filter, unless a scenario chooses another.
		options.Nodes.RPFilter, options.Nodes.Uplink = nil, ""
	}
	if f.node.targetFile != "" {
		more = append(more, "--target", f.node.targetFile)
	}
	if f.node.network.with != "" {
		more = append(more, "--with", f.node.network.with)
	}
	for _, file := range f.files {
		more = append(more, "--scenario-file", file)
	}
	options.Repeat = func(r report.Result) string { return options.Command(r.ID, more...) }
	if f.keep {
		options.Workers = 1
		options.Observe.Failed = func(r report.Result, c cluster.Cluster) { holdOpen(ctx, show, r, c) }
	}
	options.Claims = f.features()
	return options
}

// makeReportDir checks before the run that a report can be written, and removes the report of an earlier run, which
// must not be mistaken for this one.
func makeReportDir(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("--report-dir: %w", err)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("--report-dir: write in %s: %w", dir, err)
	}
	for _, name := range []string{report.JSONName, report.HTMLName, report.MarkdownName, report.JUnitName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("--report-dir: %w", err)
		}
	}
	return nil
}

// sendReport writes the report to the process that started this one and asked for it.
func (f *runFlags) sendReport(r *report.Report) error {
	if f.reportFD == 0 {
		return nil
	}
	file := os.NewFile(uintptr(f.reportFD), "report")
	if err := json.NewEncoder(file).Encode(r); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return file.Close()
}

func (f *runFlags) status(r *report.Report) error {
	switch {
	case r.Verdict == report.NotConformant, r.Verdict == report.Partial && (f.strict || f.replayed != nil):
		return &exitError{status: exitNotConformant}
	case r.Verdict == report.EnvUnfit:
		return &exitError{status: exitUnfit}
	}
	return nil
}

// holdOpen keeps a cluster until the user interrupts, which ends the run.
func holdOpen(ctx context.Context, show *progress, r report.Result, c cluster.Cluster) {
	if ctx.Err() != nil {
		return
	}
	show.done(r)
	show.end()
	fmt.Fprintf(show.out, "\nthe lab of %s is open; enter it from another terminal%s:\n", r.ID, asWhom())
	printWaysIn(ctx, show.out, c)
	fmt.Fprintln(show.out, "Ctrl-C ends it.")
	<-ctx.Done()
}
