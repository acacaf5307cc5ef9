package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/backend/cri"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/duty"
	"github.com/cnitest/cnitest/e2e/expectation"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

const runtimeLong = `Runtime asks a runtime for what the CNI specification demands of runtimes: cnitest list
requirements has the duties, RUN-1 and so on, and cnitest explain RUN-19 says why one matters and how
it is asked.

The runtime gets a node of its own, made from namespaces, and networks whose plugins make nothing and
record what they get. It is told to attach, check and delete pods, and to collect garbage; then what
the plugins got is compared with the specification.

NAME is one of:

  PROGRAM   a program in --bin-dir, or a path, with the command line and the variables of cnitool:
            PROGRAM add|check|del|gc|status NETWORK NETNS, with NETCONFPATH, CNI_PATH, CNI_IFNAME,
            CNI_ARGS and CAP_ARGS; cnitool itself is one
  cnitest   the runtime of this suite's own nodes, which is libcni
  containerd
            containerd, which make cri-tools builds: it is asked through the CRI; needs root

What a runtime cannot be asked for is not-applicable, with the reason. So are operations in an order
that the specification forbids if the runtime leaves the order to its caller, as cnitool does; a
program that keeps order itself says so with --keeps-order, and fails where it does not.

Exit status: 0 conformant, or as --expect says, 1 not conformant, 2 the command line or a file is
wrong, 3 this machine cannot run it or the lab failed, 130 Ctrl-C.`

const runtimeExamples = `  cnitest runtime cnitool --bin-dir bin
  cnitest runtime cnitool --bin-dir bin --duty 'RUN-2*' --report-dir out
  cnitest runtime cnitool --bin-dir bin --section 2.GC
  cnitest runtime ./myruntime --keeps-order --expect myruntime.expected.yaml
  cnitest runtime cnitest
  cnitest runtime containerd`

// runtimeFlags are the flags of runtime.
type runtimeFlags struct {
	binDir, duties, section, reportDir, expect string
	each, keepsOrder                           bool
	expected                                   *expectation.Expectation
	cri                                        criFlags
}

func newRuntimeCommand() *cobra.Command {
	var f runtimeFlags
	cmd := &cobra.Command{
		Use:     "runtime NAME",
		Short:   "Ask a runtime for what the specification demands of runtimes, and print a verdict",
		Long:    runtimeLong,
		Example: runtimeExamples,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return fmt.Errorf("runtime: want one runtime, such as cnitool, got %q; see cnitest runtime --help",
					args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args[0]); err != nil {
				return err
			}
			if args[0] == cri.DriverName {
				return f.run(cmd.Context(), args[0], cmd.OutOrStdout())
			}
			return asRoot(func() error { return f.run(cmd.Context(), args[0], cmd.OutOrStdout()) })
		},
	}
	f.add(cmd.Flags())
	f.cri.addTo(cmd.Flags(), "with containerd")
	return cmd
}

func (f *runtimeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.binDir, "bin-dir", defaultBinDir, "directory of the runtime's program, unless NAME is a path")
	flags.StringVar(&f.duties, "duty", "", "pattern of duties to ask, e.g. 'RUN-2*'")
	flags.StringVar(&f.section, "section", "",
		"ask the duties of a section of the CNI specification, e.g. 3 or 2.GC (see cnitest list sentences)")
	flags.StringVar(&f.expect, "expect", "",
		"file that lists what is known not to pass, and why: exit 0 if exactly that does not pass, else 1")
	flags.StringVar(&f.reportDir, "report-dir", "",
		"directory for report.json, report.html and report.md, with the evidence of failures")
	flags.BoolVar(&f.each, "each", false, "print a line for each duty, also if it passes or is not applicable")
	flags.BoolVar(&f.keepsOrder, "keeps-order", false,
		"the program itself keeps apart what must not run at once, and refuses what must not come then")
}

// program returns the path of the runtime's program; empty for the suite's own.
func (f *runtimeFlags) program(name string) string {
	switch {
	case name == duty.DriverName:
		return ""
	case name == cri.DriverName:
		return filepath.Join(f.cri.directory(), name)
	case strings.Contains(name, "/"):
		return name
	}
	return filepath.Join(f.binDir, name)
}

// check checks the flags and reads the expectation file.
func (f *runtimeFlags) check(name string) (err error) {
	if f.duties != "" && f.section != "" {
		return errors.New("--duty with --section: want one of them")
	}
	if _, err := path.Match(f.duties, ""); err != nil {
		return fmt.Errorf("--duty %q: %w", f.duties, err)
	}
	switch own := name == duty.DriverName || name == cri.DriverName; {
	case f.cri.tools != "" && name != cri.DriverName:
		return fmt.Errorf("--cri-tools is for the runtime %s, got %s", cri.DriverName, name)
	case f.keepsOrder && own:
		return fmt.Errorf("--keeps-order is said of a program, got %s", name)
	}
	if name == cri.DriverName {
		if _, err := f.cri.open(); err != nil {
			return &exitError{exitUnfit, err}
		}
	}
	if program := f.program(name); program != "" {
		info, err := os.Stat(program)
		switch {
		case err != nil:
			return fmt.Errorf("runtime %s: %w; name its directory with --bin-dir, or its path (make build builds "+
				"cnitool into bin)", name, err)
		case info.IsDir() || info.Mode().Perm()&0o111 == 0:
			return fmt.Errorf("runtime %s: %s is not an executable file", name, program)
		}
	}
	if len(f.chosen()) == 0 {
		if f.section != "" {
			return fmt.Errorf("section %q binds no runtime; see cnitest list sentences", f.section)
		}
		return fmt.Errorf("--duty %q: no duty has such an id; they are RUN-1, RUN-2, …", f.duties)
	}
	if f.expect != "" {
		f.expected, err = expectation.Load(f.expect)
	}
	return err
}

// chosen returns the ids of the duties to ask.
func (f *runtimeFlags) chosen() []string {
	var inSection []string
	if f.section != "" {
		inSection, _ = contract.AskedIn(f.section)
	}
	var ids []string
	for _, r := range contract.Requirements() {
		matches, _ := path.Match(strings.ToUpper(cmp.Or(f.duties, "*")), r.ID)
		if r.Of(contract.Runtime) && matches && (f.section == "" || slices.Contains(inSection, r.ID)) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func (f *runtimeFlags) run(ctx context.Context, name string, out io.Writer) error {
	ctx, stop := untilSignal(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := makeReportDir(f.reportDir); err != nil {
		return err
	}
	result, err := f.ask(ctx, name, out)
	if s := signalOf(ctx); s != nil {
		return &exitError{s.status(), errors.Join(s, err)}
	}
	if err != nil {
		return &exitError{exitUnfit, err}
	}
	if f.expected != nil {
		f.expected.Explain(result)
	}
	if f.reportDir != "" {
		if err := result.WriteDir(f.reportDir); err != nil {
			return err
		}
	}
	printSummary(out, result, f.reportDir)
	return f.conclusion(out, result)
}

// conclusion returns the exit status of a report.
func (f *runtimeFlags) conclusion(out io.Writer, r *report.Report) (err error) {
	conformant := r.Verdict != report.NotConformant
	if f.expected != nil {
		conformant = printExpected(out, r, f.expected, f.expect)
	}
	if !conformant {
		return &exitError{status: exitNotConformant}
	}
	return labFailure(r)
}

// ask makes a node with the runtime, asks it, and returns the report.
func (f *runtimeFlags) ask(ctx context.Context, name string, out io.Writer) (*report.Report, error) {
	r, err := newRuntimeReport(name, cmp.Or(f.program(name), selfPath))
	if err != nil {
		return nil, err
	}
	c, asked, err := f.start(ctx, name)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	node := c.Nodes()[0].Agent
	hello, err := node.Hello(ctx)
	if err != nil {
		return nil, err
	}
	r.Kernel = hello.Kernel
	cniVersion, err := f.cniVersion(name)
	if err != nil {
		return nil, err
	}
	r.Implementation.CNIVersion = cmp.Or(cniVersion, duty.Newest)
	ids := f.chosen()
	fmt.Fprintf(out, "%s: %s\n", name, duties(len(ids)))
	r.Results, err = duty.Run(ctx, duty.Options{
		Runtime: asked, Node: node, CNIVersion: cniVersion,
		Match: func(id string) bool { return slices.Contains(ids, id) },
		Done:  func(res report.Result) { f.show(out, res) },
	})
	for i := range r.Results {
		if r.Results[i].Result == report.Fail {
			r.Results[i].Repeat = f.repeat(name, r.Results[i].ID)
		}
	}
	r.DurationSeconds, r.Verdict = time.Since(r.Started).Seconds(), r.Judge()
	return r, err
}

// cniVersion returns the highest version of the CNI specification that the runtime knows; empty if that is unknown.
func (f *runtimeFlags) cniVersion(name string) (string, error) {
	if name != cri.DriverName {
		return "", nil
	}
	backend, err := f.cri.open()
	if err != nil {
		return "", err
	}
	return backend.CNIVersion(), nil
}

// start makes a node with a runtime.
func (f *runtimeFlags) start(ctx context.Context, name string) (cluster.Cluster, duty.Runtime, error) {
	file, err := conflist.Parse("runtime", []byte(sampleConflist))
	if err != nil {
		return nil, nil, err
	}
	request := cluster.Request{
		Conflist: file, BinDir: os.TempDir(), Nodes: []scenario.Node{{Name: "a"}}, Alone: true,
	}
	if name == cri.DriverName {
		return f.startContainerd(ctx, request)
	}
	title := filepath.Base(name)
	where := path.Join(toolDir, title)
	if name != duty.DriverName {
		program, err := filepath.Abs(f.program(name))
		if err != nil {
			return nil, nil, err
		}
		request.Programs = map[string]string{where: program}
	}
	c, err := newBackend().Start(ctx, request)
	if err != nil {
		return nil, nil, fmt.Errorf("no node can be made here: %w; cnitest doctor shows what is missing", err)
	}
	node := c.Nodes()[0].Agent
	if name == duty.DriverName {
		return c, duty.NewDriver(node), nil
	}
	asked, err := duty.NewCommand(ctx, node, duty.CommandOptions{Name: title, Program: where, Orders: f.keepsOrder})
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	return c, asked, nil
}

func (f *runtimeFlags) startContainerd(ctx context.Context, request cluster.Request,
) (cluster.Cluster, duty.Runtime, error) {
	backend, err := f.cri.open()
	if err != nil {
		return nil, nil, err
	}
	c, err := backend.StartNodes(ctx, request)
	if err != nil {
		return nil, nil, err
	}
	asked, err := backend.NewDriver(ctx, c, c.Nodes()[0])
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	return c, asked, nil
}

// duties counts the duties of a run.
func duties(n int) string {
	if n == 1 {
		return "1 duty of a runtime"
	}
	return fmt.Sprintf("%d duties of a runtime", n)
}

// newRuntimeReport returns a report about a runtime, without results.
func newRuntimeReport(name, program string) (*report.Report, error) {
	described, err := report.DescribeProgram(program)
	if err != nil {
		return nil, err
	}
	described.Type, described.UnderTest = filepath.Base(name), true
	return &report.Report{
		APIVersion: report.APIVersion, Kind: report.Kind, Suite: report.Suite{Version: version()},
		Implementation: report.Implementation{CNIVersion: duty.Newest, Plugins: []report.Plugin{described}},
		Profile:        report.RuntimeProfile, Backend: newBackend().Name(), Started: time.Now(),
	}, nil
}

// show prints a line for a result: for failures and what the lab could not do, and for others with --each.
func (f *runtimeFlags) show(out io.Writer, r report.Result) {
	if !f.each && quiet(r.Result) {
		return
	}
	line := fmt.Sprintf("%-15s %-7s %s", r.Result, r.ID, r.Title)
	if r.Reason != "" {
		line += "\n    " + inLines(r.Reason)
	}
	fmt.Fprintln(out, line)
}

// repeat returns the command that asks for one duty again.
func (f *runtimeFlags) repeat(name, id string) string {
	words := []string{"cnitest", "runtime", name, "--bin-dir", f.binDir, "--duty", id, "--each"}
	if f.program(name) == "" || name == cri.DriverName || strings.Contains(name, "/") {
		words = slices.Delete(words, 3, 5)
	}
	if f.keepsOrder {
		words = append(words, "--keeps-order")
	}
	return strings.Join(words, " ")
}
