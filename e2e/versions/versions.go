// Package versions runs the suite on versions of upstream's plugins, as the Go module proxy serves them, and puts the
// reports side by side: what came with a version, and what went.
//
// Nothing runs twice: a report is kept under the hash of the binaries, the conflist and the suite. The modules that pin
// the versions are those of the track record.
//
// Run it: make matrix. Run its tests: go test ./e2e/versions
package versions

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/semver"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/program"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/report/matrix"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/trackrecord"
)

// modulePrefix starts the names of the modules that pin a version of upstream's plugins.
const modulePrefix = "plugins-"

// Runner makes the matrix.
type Runner struct {
	// Cnitest is the program that is run.
	Cnitest string
	// Conflists is a directory with a conflist for each plugin, named as it is; Modules has those that pin the
	// versions.
	Conflists, Modules string
	// Programs gets the programs of the versions, Out the reports and the matrix.
	Programs, Out string
	// Plugins and Versions select; empty means all.
	Plugins, Versions []string
	// Shard of Shards is the part to run, from 1; 0 means all.
	Shard, Shards int
	// Together is the number of runs at the same time.
	Together int
	// Log gets a line for each run.
	Log io.Writer
}

// job is one run: a version of a plugin.
type job struct {
	plugin, version, conflist, programs string
	// key is the hash of everything that the result depends on.
	key string
	// lacks says why there is nothing to run; empty if there is.
	lacks string
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
	for _, j := range jobs {
		if err := j.prepare(r, suite); err != nil {
			return nil, fmt.Errorf("%s %s: %w", j.plugin, j.version, err)
		}
	}
	if err := r.runAll(ctx, jobs); err != nil {
		return nil, err
	}
	return r.collect(jobs)
}

// jobs lists the versions of each plugin, those of one plugin one after the other.
func (r *Runner) jobs() ([]*job, error) {
	versions, err := names(r.Modules, modulePrefix, "")
	if err != nil {
		return nil, err
	}
	plugins, err := names(r.Conflists, "", ".conflist")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(versions, semver.Compare)
	if err := errors.Join(known("version", r.Versions, versions), known("plugin", r.Plugins, plugins)); err != nil {
		return nil, err
	}
	var jobs []*job
	n := 0
	for _, plugin := range plugins {
		if len(r.Plugins) > 0 && !slices.Contains(r.Plugins, plugin) {
			continue
		}
		for _, version := range versions {
			if len(r.Versions) > 0 && !slices.Contains(r.Versions, version) {
				continue
			}
			if n++; r.Shards > 0 && (n-1)%r.Shards != r.Shard-1 {
				continue
			}
			jobs = append(jobs, &job{
				plugin: plugin, version: version, programs: filepath.Join(r.Programs, modulePrefix+version),
			})
		}
	}
	return jobs, nil
}

// names lists the entries of a directory with a prefix and a suffix, without them.
func names(dir, prefix, suffix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var found []string
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), prefix)
		name, ok2 := strings.CutSuffix(name, suffix)
		if ok && ok2 {
			found = append(found, name)
		}
	}
	return found, err
}

// known returns an error for each name that is none of those that exist.
func known(what string, asked, all []string) error {
	var errs []error
	for _, name := range asked {
		if !slices.Contains(all, name) {
			errs = append(errs, fmt.Errorf("%s %q: want one of %s", what, name, strings.Join(all, ", ")))
		}
	}
	return errors.Join(errs...)
}

// build makes the programs of all versions that are asked for.
func (r *Runner) build(ctx context.Context, jobs []*job) error {
	types := map[string][]string{}
	for _, j := range jobs {
		list, err := conflist.Load(filepath.Join(r.Conflists, j.plugin+".conflist"))
		if err != nil {
			return err
		}
		types[j.version] = append(types[j.version], list.Types()...)
	}
	for _, version := range slices.SortedFunc(maps.Keys(types), semver.Compare) {
		begin := time.Now()
		missing, err := trackrecord.Build(ctx, filepath.Join(r.Modules, modulePrefix+version),
			filepath.Join(r.Programs, modulePrefix+version), types[version])
		if err != nil {
			return err
		}
		more := ""
		if len(missing) > 0 {
			more = "; it has no " + strings.Join(slices.Compact(slices.Sorted(slices.Values(missing))), ", ")
		}
		fmt.Fprintf(r.Log, "built   %s in %.1f s%s\n", version, time.Since(begin).Seconds(), more)
	}
	return nil
}

// prepare writes the conflist at the newest version of the specification that all plugins of the chain know, and
// computes the key.
func (j *job) prepare(r *Runner, suite string) error {
	text, err := os.ReadFile(filepath.Join(r.Conflists, j.plugin+".conflist"))
	if err != nil {
		return err
	}
	list, err := conflist.Parse(j.plugin, text)
	if err != nil {
		return err
	}
	hash := sha256.New()
	var common []string
	for i, name := range list.Types() {
		file := filepath.Join(j.programs, name)
		sum, err := hashOf(file)
		if errors.Is(err, os.ErrNotExist) {
			j.lacks = "it has no " + name
			return nil
		}
		supported, err2 := supportedVersions(file)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		fmt.Fprintf(hash, "%s %s\n", name, sum)
		if i == 0 {
			common = supported
		}
		common = slices.DeleteFunc(common, func(v string) bool { return !slices.Contains(supported, v) })
	}
	if len(common) == 0 {
		return fmt.Errorf("the plugins %s know no version of the specification in common", strings.Join(list.Types(),
			", "))
	}
	newest := slices.MaxFunc(common, func(a, b string) int { return semver.Compare("v"+a, "v"+b) })
	if text, err = at(text, newest); err != nil {
		return err
	}
	fmt.Fprintf(hash, "%s\n%s\n%s\n", suite, strings.Join(j.flags(), " "), text)
	j.key = hex.EncodeToString(hash.Sum(nil))[:16]
	j.conflist = filepath.Join(r.Out, "net.d", j.plugin+"-"+j.version+".conflist")
	if err := os.MkdirAll(filepath.Dir(j.conflist), 0o755); err != nil {
		return err
	}
	return os.WriteFile(j.conflist, text, 0o644)
}

// at returns a conflist with another cniVersion.
func at(text []byte, version string) ([]byte, error) {
	var list map[string]any
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	list["cniVersion"] = version
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(list)
	return out.Bytes(), err
}

// supportedVersions asks a plugin which versions of the specification it knows.
func supportedVersions(plugin string) ([]string, error) {
	cmd := exec.Command(plugin)
	cmd.Env = []string{"CNI_COMMAND=VERSION"}
	cmd.Stdin = strings.NewReader(`{"cniVersion": "0.4.0"}`)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: VERSION: %w", plugin, err)
	}
	var answer struct{ SupportedVersions []string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("%s: VERSION: %w", plugin, err)
	}
	return answer.SupportedVersions, nil
}

// underlays are the plugins whose pods are on the network of the nodes.
var underlays = []string{"macvlan", "ipvlan", "vlan", "host-device"}

func (j *job) profile() string {
	if slices.Contains(underlays, j.plugin) {
		return string(scenario.ProfileUnderlay)
	}
	return string(scenario.ProfileCNI)
}

// flags are those of cnitest that the result depends on. Fault injection takes most of the time, and is left out.
func (j *job) flags() []string {
	return []string{"--plugin", j.plugin, "--profile", j.profile(), "--quick"}
}

// runAll runs the jobs that have no report yet, several at the same time.
func (r *Runner) runAll(ctx context.Context, jobs []*job) error {
	places := make(chan struct{}, max(1, r.Together))
	errs := make([]error, len(jobs))
	var all sync.WaitGroup
	for i, j := range jobs {
		if j.lacks != "" {
			continue
		}
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			errs[i] = r.run(ctx, j)
		})
	}
	all.Wait()
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
		argv := append([]string{r.Cnitest, "run", j.conflist, "--bin-dir", j.programs, "--report-dir", dir},
			j.flags()...)
		if read, err = program.Report(ctx, argv, dir); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.Log, "%-7s %-12s %-8s %-14s %5.1fs  CNI %s: %s\n", word, j.plugin, j.version, read.Verdict,
		time.Since(begin).Seconds(), read.Implementation.CNIVersion, read.Tally())
	return nil
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
		sources = append(sources, matrix.Source{Dir: filepath.Join("reports", j.key), Report: read})
	}
	m, err := matrix.New(sources)
	if err != nil {
		return nil, err
	}
	m.Notes = append(m.Notes, notes...)
	return m, m.WriteDir(r.Out)
}

// hashOf is the SHA-256 of a file.
func hashOf(file string) (string, error) {
	data, err := os.ReadFile(file)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}
