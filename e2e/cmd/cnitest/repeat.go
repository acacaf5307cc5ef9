package main

import (
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

// repeat runs the same command line so many times, each in a process of its own since Ginkgo runs one suite in a process, and fails
// where a result differs from the first run's. Reports go to run-1, run-2, … in reportDir.
func repeat(ctx context.Context, times int, reportDir string, args []string, out io.Writer) error {
	if reportDir == "" {
		dir, err := os.MkdirTemp("", "cnitest-repeat-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		reportDir = dir
	}
	var first []string
	var end error
	for i := range times {
		start := time.Now()
		r, err := runOnce(ctx, args, filepath.Join(reportDir, fmt.Sprintf("run-%d", i+1)))
		if s := signalOf(ctx); s != nil {
			return &exitError{s.status(), fmt.Errorf("%w in run %d of %d", s, i+1, times)}
		}
		var exit *exitError
		if r == nil || (err != nil && !errors.As(err, &exit)) {
			return err
		}
		results := resultLines(r)
		if i == 0 {
			first, end = results, err
		}
		same := slices.Equal(first, results)
		fmt.Fprintf(out, "run %d of %d: %s, %s in %.1fs\n", i+1, times, r.Verdict, counts(r.Count), time.Since(start).Seconds())
		if !same {
			return &exitError{exitNotConformant, fmt.Errorf("run %d differs from the first:\n%s", i+1, strings.Join(difference(first, results), "\n"))}
		}
	}
	fmt.Fprintf(out, "%d runs, the same %d results each time\n", times, len(first))
	return end
}

// runOnce returns the report, nil when there is none, and the end of the process as an *exitError.
func runOnce(ctx context.Context, args []string, dir string) (*report.Report, error) {
	flags := []string{"--repeat=1", "--report-dir=" + dir}
	// The last of several values counts; behind -- are no flags.
	if i := slices.Index(args, "--"); i >= 0 {
		args = slices.Insert(slices.Clone(args), i, flags...)
	} else {
		args = append(slices.Clone(args), flags...)
	}
	cmd := exec.CommandContext(ctx, selfPath, args...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// A terminal's interrupt reaches the child through Cancel, once.
		Setpgid: true,
		// It comes with the end of the thread that started the child (prctl(2), PR_SET_PDEATHSIG).
		Pdeathsig: syscall.SIGKILL,
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &exitError{status: statusOf(exit)}
	}
	if err != nil && cmd.ProcessState.ExitCode() != exitNotConformant {
		return nil, err
	}
	data, rerr := os.ReadFile(filepath.Join(dir, "report.json"))
	if rerr != nil {
		return nil, rerr
	}
	r := &report.Report{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "report.json"), err)
	}
	return r, err
}

// resultLines are what must be the same each time, sorted.
func resultLines(r *report.Report) []string {
	var lines []string
	for _, res := range r.Results {
		lines = append(lines, fmt.Sprintf("%s (%s): %s", res.ID, res.Plugin, res.Result))
	}
	slices.Sort(lines)
	return lines
}

// difference are the lines that only one of a and b has.
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
