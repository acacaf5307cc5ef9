package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cnitest/cnitest/e2e/report"
)

// reportFDFlag is a hidden flag of run: a file descriptor to which the report is also written.
const reportFDFlag = "report-fd"

// firstExtraFile is the number of the first of exec.Cmd's ExtraFiles in the child.
const firstExtraFile = 3

// repeatAll runs the same command line n times, each in a separate process since Ginkgo runs one suite in a process,
// and fails if a result differs from that of the first run. It ends early if a binary or file was changed. Reports go
// to run-1, run-2, … in reportDir, if it is not empty, and one of all runs to reportDir itself.
func (f *runFlags) repeatAll(ctx context.Context, args []string, out io.Writer) error {
	var runs []*report.Report
	var dirs []string
	var end error
	for i := range f.repeat {
		start := time.Now()
		// The end of one run is not the end of all.
		flags := []string{"--repeat=1", "--done=", fmt.Sprintf("--%s=%d", reportFDFlag, firstExtraFile)}
		dirs = append(dirs, fmt.Sprintf("run-%d", i+1))
		if f.reportDir != "" {
			flags = append(flags, "--report-dir="+filepath.Join(f.reportDir, dirs[i]))
		}
		r, err := runOnce(ctx, insertFlags(args, flags))
		if s := signalOf(ctx); s != nil {
			return &exitError{s.status(), fmt.Errorf("%w in run %d of %d", s, i+1, f.repeat)}
		}
		var exit *exitError
		if r == nil || (err != nil && !errors.As(err, &exit)) {
			return err
		}
		if runs = append(runs, r); i == 0 {
			end = err
		}
		fmt.Fprintf(out, "run %d of %d: %s, %s in %.1fs\n", i+1, f.repeat, r.Verdict, r.Tally(),
			time.Since(start).Seconds())
		if lines := difference(resultLines(runs[0]), resultLines(r)); lines != nil {
			printError(os.Stderr, "cnitest", fmt.Errorf("run %d differs from the first:\n%s", i+1,
				strings.Join(lines, "\n")))
			end = &exitError{status: exitNotConformant}
		}
		if others := report.Unlike(runs[0], r); others != nil {
			return &exitError{exitNotConformant, fmt.Errorf("run %d had %s than the first", i+1,
				strings.Join(others, ", "))}
		}
		if end != nil && f.failFast {
			break
		}
	}
	all := report.Repeated(runs, dirs)
	fmt.Fprintln(out, all.Certainty())
	if f.reportDir == "" {
		return end
	}
	return cmp.Or(all.WriteDir(f.reportDir), end)
}

// runOnce returns the report, nil if there is none, and the outcome of the process as an *exitError.
func runOnce(ctx context.Context, args []string) (*report.Report, error) {
	// The report comes through a pipe: a temporary directory would stay if this process is killed.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	defer write.Close()
	cmd := exec.CommandContext(ctx, selfPath, args...)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{write}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = childAttributes()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// The pipe ends when its last writer ends.
	_ = write.Close()
	r := &report.Report{}
	decodeErr := json.NewDecoder(read).Decode(r)
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &exitError{status: statusOf(exit)}
	}
	switch {
	case err != nil && cmd.ProcessState.ExitCode() != exitNotConformant:
		return nil, err
	case decodeErr != nil:
		return nil, fmt.Errorf("report of the run: %w", decodeErr)
	}
	return r, err
}

// insertFlags inserts flags at the right place: of several values the last one counts, and words after -- are not
// flags.
func insertFlags(args, flags []string) []string {
	if i := slices.Index(args, "--"); i >= 0 {
		return slices.Insert(slices.Clone(args), i, flags...)
	}
	return append(slices.Clone(args), flags...)
}

// resultLines returns the results that must be the same each time, sorted.
func resultLines(r *report.Report) []string {
	var lines []string
	for _, res := range r.Results {
		lines = append(lines, fmt.Sprintf("%s (%s): %s", res.ID, res.Plugin, res.Result))
	}
	slices.Sort(lines)
	return lines
}

// difference returns the lines that only one of a and b has.
func difference(a, b []string) []string {
	var lines []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			lines = append(lines, "want "+x)
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			lines = append(lines, "got  "+x)
		}
	}
	return lines
}
