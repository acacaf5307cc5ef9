// Command stress shows that load does not change a verdict. It runs conflists on the idle machine, then repeatedly
// beside busy loops and a disk writer, and beside three other runs, and compares every result with the first.
//
//	go run ./e2e/stress --cnitest bin/cnitest --times 20 'a.conflist --bin-dir bin' 'b.conflist --bin-dir bin'
//
// Each argument contains the arguments of one run, separated by blanks. It exits with 1 if a result differs.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cnitest/cnitest/e2e/expectation"
	"github.com/cnitest/cnitest/e2e/internal/busy"
	"github.com/cnitest/cnitest/e2e/internal/program"
	"github.com/cnitest/cnitest/e2e/report"
)

// together is the number of runs that are started at the same time, so that each runs beside three others.
const together = 4

func main() {
	cnitest := flag.String("cnitest", "bin/cnitest", "the program that is run")
	times := flag.Int("times", 20, "how often each conflist is run beside loops, and beside other runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	different, err := stress(ctx, *cnitest, *times, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "stress:", err)
		os.Exit(2)
	}
	if different > 0 {
		fmt.Printf("%d differences from the quiet run\n", different)
		os.Exit(1)
	}
	fmt.Println("every id has the same result in all runs")
}

// subject is a run that is repeated.
type subject struct {
	args []string
	// expected is the expectation file of the run: what passes only sometimes, by a race of the plugin, makes no
	// difference.
	expected *expectation.Expectation
	// quiet is the report of the run on the idle machine.
	quiet *report.Report
}

func stress(ctx context.Context, cnitest string, times int, lines []string) (different int, err error) {
	dir, err := os.MkdirTemp("", "cnitest-stress-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if len(lines) == 0 || times < 1 {
		return 0, errors.New("want --times of 1 or more, and what each run is started with as one argument")
	}
	runner := runner{cnitest: cnitest, dir: dir}
	var subjects []*subject
	for _, line := range lines {
		s, err := newSubject(strings.Fields(line))
		if err != nil {
			return 0, err
		}
		begin := time.Now()
		r, err := runner.run(ctx, s)
		if err != nil {
			return 0, err
		}
		s.quiet = r
		fmt.Printf("%s: %s in %s, %d results\n", s.args[0], r.Verdict, time.Since(begin).Round(time.Second),
			len(r.Results))
		subjects = append(subjects, s)
	}
	n, err := besideLoops(ctx, &runner, subjects, times)
	if err != nil {
		return 0, err
	}
	m, err := besideRuns(ctx, &runner, subjects, times)
	return n + m, err
}

func newSubject(args []string) (*subject, error) {
	if len(args) == 0 {
		return nil, errors.New("want a conflist and its flags in each argument, got an empty one")
	}
	s := &subject{args: args, expected: &expectation.Expectation{}}
	if i := slices.Index(args, "--expect"); i >= 0 && i+1 < len(args) {
		var err error
		if s.expected, err = expectation.Load(args[i+1]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// besideLoops runs one subject after the other beside two loops for each processor and a disk writer.
func besideLoops(ctx context.Context, runner *runner, subjects []*subject, times int) (different int, err error) {
	load, err := busy.Start(2*runtime.NumCPU(), true)
	if err != nil {
		return 0, err
	}
	defer load.Stop()
	for i := range times {
		for _, s := range subjects {
			r, err := runner.run(ctx, s)
			if err != nil {
				return 0, err
			}
			different += s.compare(r, fmt.Sprintf("beside loops, run %d", i+1))
		}
	}
	return different, nil
}

// besideRuns runs several subjects at the same time.
func besideRuns(ctx context.Context, runner *runner, subjects []*subject, times int) (different int, err error) {
	places := make(chan struct{}, together)
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	for i := range times {
		for _, s := range subjects {
			places <- struct{}{}
			all.Go(func() {
				defer func() { <-places }()
				r, err := runner.run(ctx, s)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, err)
					return
				}
				different += s.compare(r, fmt.Sprintf("beside other runs, run %d", i+1))
			})
		}
	}
	all.Wait()
	return different, errors.Join(errs...)
}

// compare prints the differences from the quiet run, including the verdict, and returns their number.
func (s *subject) compare(r *report.Report, when string) (different int) {
	again, excused := 0, 0
	for _, result := range r.Results {
		if result.FirstRun != nil {
			again++
		}
		if result.Disturbed != "" && result.LabFailed {
			excused++
		}
	}
	d := report.Diff(s.expected.Steady(s.quiet), s.expected.Steady(r))
	changes := slices.Concat(d.Worse, d.Better, d.Changed, d.New, d.Gone)
	fmt.Printf("%s, %s: %s, %d differ (%d excused), %d run twice\n", s.args[0], when, r.Verdict, len(changes), excused,
		again)
	for _, c := range changes {
		fmt.Printf("  %s: quiet %s, now %s: %s\n", c.What, cmp.Or(c.From, "none"), cmp.Or(c.To, "none"), c.Reason)
	}
	return len(changes)
}

// runner starts cnitest.
type runner struct {
	cnitest, dir string

	mu    sync.Mutex
	count int
}

// run runs a subject and reads its report.
func (r *runner) run(ctx context.Context, s *subject) (*report.Report, error) {
	r.mu.Lock()
	r.count++
	dir := filepath.Join(r.dir, fmt.Sprint(r.count))
	r.mu.Unlock()
	return program.Report(ctx, slices.Concat([]string{r.cnitest, "run"}, s.args, []string{"--report-dir", dir}), dir)
}
