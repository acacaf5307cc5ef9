package versions

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/trackrecord"
)

// job is one run: a version of a plugin.
type job struct {
	project, plugin, version string
	// chain is the conflist as it is in the repository, and conflist the one that is run.
	chain, conflist string
	// programs is the directory of the version's programs, and module the one that pins it.
	programs, module string
	// filter selects what is asked.
	filter string
	// key is the hash of everything that the result depends on. same is an earlier version with the same key, whose
	// report is about this one, too; nil if there is none.
	key  string
	same *job
	// before is the version before, which fails in much the same words; nil if there is none.
	before *job
	// lacks says why there is nothing to run; empty if there is.
	lacks string
}

// jobs lists the versions of each plugin, those of one plugin one after the other.
func (r *Runner) jobs() ([]*job, error) {
	projects, err := names(r.Conflists, "", "")
	if err != nil {
		return nil, err
	}
	var jobs []*job
	var plugins, versions []string
	for _, project := range projects {
		of, err := names(r.Modules, project+"-", "")
		if err != nil {
			return nil, err
		}
		slices.SortFunc(of, semver.Compare)
		dir := filepath.Join(r.Conflists, project)
		chains, err := names(dir, "", ".conflist")
		if err != nil {
			return nil, err
		}
		plugins, versions = append(plugins, chains...), append(versions, of...)
		for _, plugin := range chains {
			for _, version := range of {
				jobs = append(jobs, &job{
					project: project, plugin: plugin, version: version,
					chain:    filepath.Join(dir, plugin+".conflist"),
					module:   filepath.Join(r.Modules, project+"-"+version),
					programs: filepath.Join(r.Programs, project+"-"+version),
				})
			}
		}
	}
	err = errors.Join(known("version", r.Versions, versions), known("plugin", r.Plugins, plugins))
	return r.choose(jobs), err
}

// choose returns the jobs that are asked for.
func (r *Runner) choose(all []*job) []*job {
	var jobs []*job
	n := 0
	for _, j := range all {
		if len(r.Plugins) > 0 && !slices.Contains(r.Plugins, j.plugin) ||
			len(r.Versions) > 0 && !slices.Contains(r.Versions, j.version) {
			continue
		}
		if n++; r.Shards == 0 || (n-1)%r.Shards == r.Shard-1 {
			jobs = append(jobs, j)
		}
	}
	return jobs
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

// prepare writes the conflist at the newest version of the specification that all plugins of the chain know, and the
// target file beside it, and computes the key from the suite and what hashOfCode says of each program.
func (j *job) prepare(
	ctx context.Context, r *Runner, suite string, hashOfCode func(file string) (string, error),
) error {
	text, err := os.ReadFile(j.chain)
	if err != nil {
		return err
	}
	list, err := conflist.Parse(j.plugin, text)
	if err != nil {
		return err
	}
	j.filter = filterOf(j.plugin, list)
	hash := sha256.New()
	var common []string
	for i, name := range list.Types() {
		file := filepath.Join(j.programs, name)
		sum, err := hashOfCode(file)
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
	j.conflist = filepath.Join(r.Out, "net.d", j.plugin+"-"+j.version+".conflist")
	if err := os.MkdirAll(filepath.Dir(j.conflist), 0o755); err != nil {
		return err
	}
	target, err := j.writeTarget(ctx)
	if err != nil {
		return err
	}
	for _, name := range beside(j.project) {
		sum, err := hashOfCode(filepath.Join(j.programs, name))
		if err != nil {
			return err
		}
		target += name + " " + sum
	}
	hash.Write([]byte(target))
	j.key = hex.EncodeToString(hash.Sum(nil))[:16]
	return os.WriteFile(j.conflist, text, 0o644)
}

// filterOf selects the scenarios, and of the requirements those of the plugin: the others of its chain have conflists
// of their own. An IPAM plugin is asked its requirements only, since the scenarios are those of the plugin that calls
// it.
func filterOf(plugin string, list *conflist.File) string {
	if slices.ContainsFunc(list.Plugins, func(p conflist.Plugin) bool { return p.Type == plugin }) {
		return "!contract || " + plugin
	}
	return "contract && " + plugin
}

// moduleMark stands for the directory of the project's module in target files.
const moduleMark = "MODULE/"

// writeTarget puts the target file beside the conflist that is run, if there is one. It returns its text.
func (j *job) writeTarget(ctx context.Context) (string, error) {
	const target = ".target.yaml"
	text, err := os.ReadFile(strings.TrimSuffix(j.chain, ".conflist") + target)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	written := text
	if bytes.Contains(text, []byte(moduleMark)) {
		dir, err := trackrecord.ModuleDir(ctx, j.module)
		if err != nil {
			return "", err
		}
		written = bytes.ReplaceAll(text, []byte(moduleMark), []byte(dir+"/"))
	}
	return string(text), os.WriteFile(strings.TrimSuffix(j.conflist, ".conflist")+target, written, 0o644)
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

// flags are those of cnitest that the result depends on. Fault injection takes most of the time, and is left out.
func (j *job) flags() []string {
	return []string{
		"--plugin", j.plugin, "--profile", string(scenario.ProfileCNI), "--quick", "--label-filter", j.filter,
	}
}

// hashOf is the SHA-256 of a file.
func hashOf(file string) (string, error) {
	data, err := os.ReadFile(file)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}
