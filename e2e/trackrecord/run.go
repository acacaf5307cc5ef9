package trackrecord

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/internal/program"
	"github.com/cnitest/cnitest/e2e/report"
)

// tries is how often a run is repeated whose result the machine prevented.
const tries = 3

// Runner checks rows.
type Runner struct {
	// Cnitest is the program that is run.
	Cnitest string
	// VM is the program vmrun: rows that need a feature of the kernel are run in a virtual machine. Empty means that
	// they are run on this machine's kernel.
	VM string
	// Dir has record.yaml, Programs gets the programs of the versions, Reports the reports.
	Dir, Programs, Reports string
}

// outcome is the result of a row.
type outcome struct {
	// wrong says what is not as the row says; nil means that the bad version fails and the fixed one passes.
	wrong error
	// lacks is what this machine lacks for the row; if it is not empty, nothing is wrong and nothing was shown.
	lacks string
}

// check runs the bad and the fixed version of a row.
func (r *Runner) check(ctx context.Context, d *Defect) outcome {
	if program := d.Caught.Program; program != "" {
		if _, err := exec.LookPath(program); err != nil {
			return outcome{lacks: "the program " + program}
		}
	}
	bad, err := r.run(ctx, d, d.Bad)
	if err != nil {
		return d.excuse(bad, err)
	}
	if err := d.red(bad); err != nil {
		return d.excuse(bad, fmt.Errorf("%s: %w", d.Bad, err))
	}
	fixed, err := r.run(ctx, d, d.green())
	if err != nil {
		return d.excuse(fixed, err)
	}
	if err := d.passed(fixed); err != nil {
		return d.excuse(fixed, fmt.Errorf("%s: %w", d.green(), err))
	}
	return outcome{}
}

// excuse returns what is wrong, unless the machine lacks the feature of the kernel that the row names.
func (d *Defect) excuse(read *report.Report, err error) outcome {
	// Without the feature no pod can be attached, or a plugin was refused it.
	if d.Caught.Kernel != "" && read != nil && (read.Verdict == report.EnvUnfit ||
		slices.ContainsFunc(read.Results, func(res report.Result) bool { return res.Lacks != "" })) {
		return outcome{lacks: "the kernel's " + d.Caught.Kernel}
	}
	return outcome{wrong: err}
}

// run runs the id of a row on a version, again if the machine was too busy.
func (r *Runner) run(ctx context.Context, d *Defect, version string) (read *report.Report, err error) {
	for range tries {
		if read, err = r.once(ctx, d, version); err != nil {
			return nil, err
		}
		if res := d.result(read); res == nil || !res.LabFailed {
			return read, nil
		}
	}
	return read, nil
}

func (r *Runner) once(ctx context.Context, d *Defect, version string) (*report.Report, error) {
	reports := filepath.Join(r.Reports, d.Name, version)
	if err := os.RemoveAll(reports); err != nil {
		return nil, err
	}
	args := append([]string{r.Cnitest}, d.arguments(r.Dir, r.programs(d, version))...)
	args = append(args, "--report-dir", reports)
	if r.VM != "" && d.Caught.Kernel != "" {
		if err := os.MkdirAll(reports, 0o755); err != nil {
			return nil, err
		}
		// Translated code takes twenty times as long.
		args = append([]string{r.VM, "--cpus", "1", "--timeout", "10m", "--back", reports}, args...)
	}
	return program.Report(ctx, args, reports)
}

// arguments are those of cnitest for one run.
func (d *Defect) arguments(dir, programs string) []string {
	c := d.Caught
	args := []string{"run", c.file(dir), "--bin-dir", programs, "--profile", "cni", "--features", "all"}
	scenario := c.ID
	if scenario == "first-attachment" {
		scenario = "del-twice" // any that needs it, which every run does
	}
	args = append(args, "--plugin", c.Tested, "--scenario", scenario)
	return append(args, c.Flags...)
}

// result is the one that the row is about; nil means that there is none. A scenario has one result, which is about the
// plugin that made it fail, and about the chain if it passes.
func (d *Defect) result(read *report.Report) *report.Result {
	for i, res := range read.Results {
		if res.ID == d.Caught.ID && (res.Plugin == d.under() || res.Kind == "scenario" && res.Result == report.Pass) {
			return &read.Results[i]
		}
	}
	return nil
}

// red says why a run does not show the defect: its id must fail for the reason of the row, and nothing else may fail
// but leaves-nothing, since some defects are that something stays.
func (d *Defect) red(read *report.Report) error {
	res := d.result(read)
	if res == nil {
		return fmt.Errorf("no result of %s about %s", d.Caught.ID, d.under())
	}
	if !failed(*res) {
		return fmt.Errorf("%s of %s: %s %s, want fail", res.ID, res.Plugin, res.Result, res.Reason)
	}
	if !strings.Contains(res.Reason, d.Caught.Says) {
		return fmt.Errorf("%s of %s fails for the reason %q, want one with %q", res.ID, res.Plugin, res.Reason,
			d.Caught.Says)
	}
	for _, other := range read.Results {
		if failed(other) && other.ID != res.ID && other.ID != "leaves-nothing" && res.ID != "first-attachment" &&
			read.Counts(other) {
			return fmt.Errorf("%s of %s fails, too: %s", other.ID, other.Plugin, other.Reason)
		}
	}
	return nil
}

// passed says why a run does not show that the defect is mended.
func (d *Defect) passed(read *report.Report) error {
	res := d.result(read)
	if res == nil && d.Caught.ID == "first-attachment" {
		// It is listed only if it fails.
		res = &report.Result{Result: report.Pass}
	}
	if res == nil {
		return fmt.Errorf("no result of %s about %s", d.Caught.ID, d.under())
	}
	if res.Result != report.Pass {
		return fmt.Errorf("%s of %s: %s %s, want pass", res.ID, res.Plugin, res.Result, res.Reason)
	}
	return nil
}

func failed(res report.Result) bool { return res.Result == report.Fail || res.Result == report.Vacuous }

// Run builds the versions that the rows need, checks the rows and prints them. No names mean all rows. wrong
// is the number of rows that are not as the table says.
func (r *Runner) Run(ctx context.Context, together int, names []string) (wrong int, err error) {
	table, err := Load(r.Dir)
	if err != nil {
		return 0, err
	}
	rows, err := table.caught(names)
	if err != nil {
		return 0, err
	}
	if err := r.build(ctx, rows); err != nil {
		return 0, err
	}
	outcomes := make([]outcome, len(rows))
	places := make(chan struct{}, together)
	var all sync.WaitGroup
	for i, d := range rows {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			begin := time.Now()
			outcomes[i] = r.check(ctx, d)
			outcomes[i].print(d, time.Since(begin))
		})
	}
	all.Wait()
	lacking := 0
	for _, o := range outcomes {
		if o.wrong != nil {
			wrong++
		}
		if o.lacks != "" {
			lacking++
		}
	}
	fmt.Printf("\n%d rows: %d as the table says, %d not, %d not run, since this machine lacks something\n", len(rows),
		len(rows)-wrong-lacking, wrong, lacking)
	return wrong, ctx.Err()
}

// caught returns the rows of these names that can be checked, or all of them.
func (r *Record) caught(names []string) ([]*Defect, error) {
	var rows []*Defect
	for i := range r.Defects {
		if d := &r.Defects[i]; d.Caught != nil && (len(names) == 0 || slices.Contains(names, d.Name)) {
			rows = append(rows, d)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(rows, func(d *Defect) bool { return d.Name == name }) {
			return nil, fmt.Errorf("no row that can be checked is named %q", name)
		}
	}
	return rows, nil
}

func (o outcome) print(d *Defect, took time.Duration) {
	word, more := "ok", fmt.Sprintf("%s fails on %s, passes on %s", d.Caught.ID, d.Bad, d.green())
	switch {
	case o.wrong != nil:
		word, more = "WRONG", strings.ReplaceAll(o.wrong.Error(), "\n", "\n        ")
	case o.lacks != "":
		word, more = "not run", "this machine lacks "+o.lacks
	}
	fmt.Printf("%-7s %-40s %5.1fs  %s: %s\n", word, d.Name, took.Seconds(), d.Plugin, more)
}
