// Package program runs cnitest as a program of its own, and reads its report.
package program

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cnitest/cnitest/e2e/report"
)

// Report runs a command that writes a report to a directory, and reads the report. All exit statuses are accepted that
// a run can have; without a report the error has what the command printed. When ctx ends, the command gets SIGTERM.
func Report(ctx context.Context, argv []string, dir string) (*report.Report, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	read, err := report.ReadFile(filepath.Join(dir, report.JSONName))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; it printed:\n%s", strings.Join(cmd.Args, " "), err, output)
	}
	return read, nil
}
