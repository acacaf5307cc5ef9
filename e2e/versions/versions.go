// Package versions runs the suite on versions of other projects' plugins, as the Go module proxy serves them, and puts
// the reports side by side: what came with a version, and what went.
//
// Nothing runs twice: a report is kept under the hash of the programs' code, the conflist and the suite, and each
// plugin is asked in its own conflist only. A version whose code is that of another has the same report. The modules
// that pin the versions are those of the track record.
//
// Run it: make matrix. Run its tests: go test ./e2e/versions
package versions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/internal/program"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/report/matrix"
)

// Runner makes the matrix.
type Runner struct {
	// Cnitest is the program that is run.
	Cnitest string
	// Conflists has a directory for each project, with a conflist for each plugin, named as it is, and a target file
	// beside it if it needs one. Modules has the modules PROJECT-VERSION that pin the versions.
	Conflists, Modules string
	// Programs gets the programs of the versions, Out the reports and the matrix.
	Programs, Out string
	// Plugins and Versions select; empty means all.
	Plugins, Versions []string
	// Shard of Shards is the part to run, from 1; 0 means all.
	Shard, Shards int
	// Together is the number of plugins that run at the same time.
	Together int
	// Log gets a line for each run.
	Log io.Writer

	logging sync.Mutex
}

// Run builds the versions, runs what has no report yet, and writes the matrix. Reports of plugins that this machine
// cannot run are among its notes.
func (r *Runner) Run(ctx context.Context) (*matrix.Matrix, error) {
	jobs, err := r.jobs()
	if err != nil {
		return nil, err
	}
	if err := r.build(ctx, jobs); err != nil {
		return nil, err
	}
	return r.runJobs(ctx, jobs)
}

// runJobs runs jobs whose programs are there.
func (r *Runner) runJobs(ctx context.Context, jobs []*job) (*matrix.Matrix, error) {
	suite, err := hashOf(r.Cnitest)
	if err != nil {
		return nil, err
	}
	first, hash := map[string]*job{}, once(hashOfCode)
	for _, j := range jobs {
		if err := j.prepare(ctx, r, suite, hash); err != nil {
			return nil, fmt.Errorf("%s %s: %w", j.plugin, j.version, err)
		}
		if j.lacks != "" {
			continue
		}
		if j.same = first[j.key]; j.same == nil {
			first[j.key] = j
		}
	}
	if err := r.runAll(ctx, jobs); err != nil {
		return nil, err
	}
	return r.collect(jobs)
}

// runAll runs the jobs that have no report yet: the versions of a plugin one after the other, since most of what
// fails in one fails in the words of the version before, and several plugins at the same time.
func (r *Runner) runAll(ctx context.Context, jobs []*job) error {
	var plugins [][]*job
	for _, j := range jobs {
		switch last := len(plugins) - 1; {
		case j.lacks != "" || j.same != nil:
		case last >= 0 && plugins[last][0].plugin == j.plugin:
			j.before = plugins[last][len(plugins[last])-1]
			plugins[last] = append(plugins[last], j)
		default:
			plugins = append(plugins, []*job{j})
		}
	}
	errs := make([]error, len(plugins))
	var all errgroup.Group
	all.SetLimit(max(1, r.Together))
	for i, versions := range plugins {
		all.Go(func() error {
			for _, j := range versions {
				errs[i] = errors.Join(errs[i], r.run(ctx, j))
			}
			return nil
		})
	}
	_ = all.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// dir is the directory of the job's report.
func (r *Runner) dir(j *job) string { return filepath.Join(r.Out, "reports", j.key) }

// run makes the report of a job, unless there is one that the lab could make.
func (r *Runner) run(ctx context.Context, j *job) error {
	if ctx.Err() != nil {
		return nil
	}
	dir, begin, word := r.dir(j), time.Now(), "ran"
	read, err := report.ReadFile(filepath.Join(dir, report.JSONName))
	if err == nil && !read.Interrupted && !slices.ContainsFunc(read.Results,
		func(res report.Result) bool { return res.LabFailed }) {
		word = "kept"
	} else {
		if read, err = program.Report(ctx, r.argv(j), dir); err != nil {
			return err
		}
	}
	r.logging.Lock()
	defer r.logging.Unlock()
	fmt.Fprintf(r.Log, "%-7s %-12s %-8s %-14s %5.1fs  CNI %s: %s\n", word, j.plugin, j.version, read.Verdict,
		time.Since(begin).Seconds(), read.Implementation.CNIVersion, read.Tally())
	return nil
}

// argv is the command that makes the report of a job.
func (r *Runner) argv(j *job) []string {
	argv := append([]string{r.Cnitest, "run", j.conflist, "--bin-dir", j.programs, "--report-dir", r.dir(j)},
		j.flags()...)
	if j.before == nil {
		return argv
	}
	// Most defects were there before, and need not be seen twice on a busy machine.
	if _, err := os.Stat(filepath.Join(r.dir(j.before), report.JSONName)); err == nil {
		argv = append(argv, "--like", r.dir(j.before))
	}
	return argv
}

// collect puts the reports side by side.
func (r *Runner) collect(jobs []*job) (*matrix.Matrix, error) {
	var sources []matrix.Source
	var notes []string
	for _, j := range jobs {
		if j.lacks != "" {
			notes = append(notes, fmt.Sprintf("%s %s: %s", j.plugin, j.version, j.lacks))
			continue
		}
		read, err := report.ReadFile(filepath.Join(r.dir(j), report.JSONName))
		if err != nil {
			return nil, err
		}
		source := matrix.Source{Dir: filepath.Join("reports", j.key), Report: read}
		if j.same != nil {
			source.Version = j.version
			notes = append(notes, fmt.Sprintf("%s %s: its programs are those of %s, whose report it has", j.plugin,
				j.version, j.same.version))
		}
		sources = append(sources, source)
	}
	m, err := matrix.New(sources)
	if err != nil {
		return nil, err
	}
	m.Notes = append(m.Notes, notes...)
	return m, m.WriteDir(r.Out)
}
