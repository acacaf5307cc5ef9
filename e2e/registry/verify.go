package registry

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Options say what a report is compared with.
type Options struct {
	// Version is the version of this cnitest, Scenarios are its scenario files.
	Version   string
	Scenarios fs.FS
	// BinDir is the directory of the binaries that were tested; empty means that their hashes are not compared.
	BinDir string
	// Unreleased accepts reports of a suite that is no release, and about plugins that have no version.
	Unreleased bool
}

// released is the form of the version of a release.
var released = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)

// Verify returns the report in a directory and what is wrong with it: an error for each thing, of one sentence. The
// report is nil if the file is none.
func Verify(dir string, o Options) (*report.Report, []error) {
	r, err := report.ReadFile(filepath.Join(dir, report.JSONName))
	if err != nil {
		return nil, []error{err}
	}
	v := &verifier{Report: r, options: o, dir: dir}
	switch {
	case r.AboutRuntime():
		v.wrong("it is about a runtime, and the registry is one of plugins")
	case r.Inputs == nil:
		v.wrong("it has no inputs, so that nobody can repeat it: it was written by a cnitest that kept none")
	case v.suite():
		v.inputs()
		v.whole()
		v.ids()
		v.verdict()
		v.origin()
		v.binaries()
		v.files()
	}
	if v.problems == nil && r.Digest != r.Sum() {
		v.wrong("its digest is %s, and its content has %s: something in it was changed", brief(r.Digest),
			brief(r.Sum()))
	}
	return r, v.problems
}

type verifier struct {
	*report.Report
	options  Options
	dir      string
	problems []error
}

func (v *verifier) wrong(format string, args ...any) {
	v.problems = append(v.problems, fmt.Errorf(format, args...))
}

// suite compares the suite that wrote the report with this one, and reports whether its ids can be compared.
func (v *verifier) suite() bool {
	questions, err := Questions(v.options.Scenarios)
	if err != nil {
		v.problems = append(v.problems, err)
		return false
	}
	switch {
	case v.Suite.Version != v.options.Version:
		v.wrong("it was written by cnitest %s, and this is %s: verify it with the former", v.Suite.Version,
			v.options.Version)
		return false
	case !released.MatchString(v.Suite.Version) && !v.options.Unreleased:
		v.wrong("it was written by cnitest %s, which is no release", v.Suite.Version)
	}
	if v.Inputs.Questions != questions {
		v.wrong("its scenarios and requirements (%s) are not those of cnitest %s (%s)", brief(v.Inputs.Questions),
			v.options.Version, brief(questions))
		return false
	}
	return true
}

// inputs compares the hashes of the inputs with the inputs.
func (v *verifier) inputs() {
	for _, f := range v.Inputs.Files {
		if want := report.NewInputFile(f.Name, []byte(f.Text)).SHA256; f.SHA256 != want {
			v.wrong("its input %s has the hash %s, and its text has %s", f.Name, brief(f.SHA256), brief(want))
		}
	}
	if want := v.InputsSum(); v.Inputs.SHA256 != want {
		v.wrong("its inputs have the hash %s, and what it says of plugins, profile and files has %s",
			brief(v.Inputs.SHA256), brief(want))
	}
}

// whole wants a run of everything.
func (v *verifier) whole() {
	switch {
	case v.Inputs.Shard != "":
		v.wrong("it is shard %s of a run: merge all shards first (cnitest report merge)", v.Inputs.Shard)
	case v.Inputs.Selection != "":
		v.wrong("only a selection was asked: %s", v.Inputs.Selection)
	case v.Inputs.Quick:
		v.wrong("it is a quick run: no plugin was killed or failed at every call, and no two calls took turns")
	case v.Interrupted:
		v.wrong("the run ended before everything had been asked")
	}
}

// question is what a result must look like.
type question struct{ kind, plugin, level string }

// asked returns the questions of a whole run, by the names of their results.
func (v *verifier) asked() (map[string]question, error) {
	questions := map[string]question{}
	all, err := scenario.Load(v.options.Scenarios)
	if err != nil {
		return nil, err
	}
	profile := scenario.Profile(v.Profile)
	if !slices.Contains(scenario.Profiles(), profile) {
		return nil, fmt.Errorf("its profile %q is none of %v", v.Profile, scenario.Profiles())
	}
	for _, sc := range all {
		q := question{kind: "scenario", level: report.Extended}
		if profile.Core(sc) {
			q.level = report.Core
		}
		questions[sc.Name] = q
	}
	if len(v.Inputs.Files) == 0 {
		return nil, errors.New("its inputs lack the conflist")
	}
	conf := v.Inputs.Files[0]
	file, err := conflist.Parse(conf.Name, []byte(conf.Text))
	if err != nil {
		return nil, fmt.Errorf("its conflist cannot be read: %w", err)
	}
	if want, got := strings.Join(file.Types(), ", "), v.types(); want != got {
		return nil, fmt.Errorf("its conflist names the plugins %s, and it is about %s", want, got)
	}
	if v.hasRuntime() {
		return questions, nil // requirements need nodes without a runtime
	}
	for _, subject := range contract.Subjects(file, contract.Lab{}) {
		for _, r := range contract.Requirements() {
			left := r.ID == contract.LeavesNothing && subject.Role != contract.IPAM
			if !r.Of(subject.Role) || !r.Checked() && !left || r.Sweeps() && (v.Inputs.Quick ||
				!v.tests(subject.Type)) {
				continue
			}
			questions[r.ID+" "+subject.Type] = question{"requirement", subject.Type, string(r.Level)}
		}
	}
	return questions, nil
}

// hasRuntime reports whether the nodes of the backend have a runtime. Such a backend brings scenarios of its own.
func (v *verifier) hasRuntime() bool { return slices.Contains([]string{"cri", "kind"}, v.Backend) }

// types lists the plugins of the report.
func (v *verifier) types() string {
	var types []string
	for _, p := range v.Implementation.Plugins {
		types = append(types, p.Type)
	}
	return strings.Join(types, ", ")
}

func (v *verifier) tests(plugin string) bool {
	return slices.ContainsFunc(v.Implementation.Plugins, func(p report.Plugin) bool {
		return p.Type == plugin && p.UnderTest
	})
}

// ids compares the results with the questions of the release.
func (v *verifier) ids() {
	questions, err := v.asked()
	if err != nil {
		v.problems = append(v.problems, err)
		return
	}
	seen := map[string]bool{}
	for _, res := range v.Results {
		name := res.Name()
		q, known := questions[name]
		switch {
		case seen[name]:
			v.wrong("it has two results of %s", name)
		case res.ID == contract.FirstAttachment:
			// It is there only if it failed.
		case !known && v.hasRuntime() && res.Kind == "scenario":
		case !known && res.ID == contract.LeavesNothing && res.Result != report.Pass:
			// A plugin that a scenario adds to the chain left something; it has no result otherwise.
		case !known:
			v.wrong("it has a result of %s, which cnitest %s does not ask", name, v.options.Version)
		case res.Kind != q.kind || res.Level != q.level:
			v.wrong("its result of %s is of a %s with the level %s, and cnitest %s has a %s with the level %s", name,
				res.Kind, res.Level, v.options.Version, q.kind, q.level)
		}
		seen[name] = true
	}
	if v.Inputs.Selection != "" || v.Inputs.Shard != "" || v.Interrupted {
		return
	}
	for _, name := range sorted(questions) {
		if !seen[name] {
			v.wrong("it has no result of %s", name)
		}
	}
}

func sorted(questions map[string]question) []string {
	names := make([]string, 0, len(questions))
	for name := range questions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// verdict wants the verdict that follows from the results.
func (v *verifier) verdict() {
	if v.Verdict == report.EnvUnfit {
		v.wrong("its verdict is %s: it says nothing of the plugins", v.Verdict)
		return
	}
	if want := v.Judge(); v.Verdict != want {
		v.wrong("its verdict is %s, and %s follows from its results (%s)", v.Verdict, want, v.Tally())
	}
}

// origin wants somebody whom readers can ask.
func (v *verifier) origin() {
	o := v.Implementation.Origin
	for _, field := range []struct{ name, value string }{
		{"organization", o.Organization}, {"project", o.Project}, {"version", o.Version}, {"contact", o.Contact},
	} {
		if field.value == "" && !(field.name == "version" && v.options.Unreleased) {
			v.wrong("it names no %s: write implementation.%[1]s into the target file, and run it again", field.name)
		}
	}
}

// binaries compares the hashes with those of the binaries.
func (v *verifier) binaries() {
	for _, p := range v.Implementation.Plugins {
		if len(p.SHA256) != len(v.Inputs.SHA256) {
			v.wrong("the hash of %s is %q, and no SHA-256", p.Type, p.SHA256)
			continue
		}
		if v.options.BinDir == "" {
			continue
		}
		got, err := report.DescribeProgram(filepath.Join(v.options.BinDir, p.Type))
		switch {
		case err != nil:
			v.problems = append(v.problems, fmt.Errorf("the binary of %s cannot be compared: %w", p.Type, err))
		case got.SHA256 != p.SHA256:
			v.wrong("the binary of %s has the hash %s, and %s was tested", p.Type, brief(got.SHA256), brief(p.SHA256))
		}
	}
}

// files compares the pages with what the report renders to, and looks for the packets that it names.
func (v *verifier) files() {
	var page bytes.Buffer
	if err := v.WriteHTML(&page); err != nil {
		v.problems = append(v.problems, err)
		return
	}
	for _, f := range []struct{ name, want string }{
		{report.HTMLName, page.String()}, {report.MarkdownName, v.Markdown()},
	} {
		switch got, err := os.ReadFile(filepath.Join(v.dir, f.name)); {
		case err != nil:
			v.problems = append(v.problems, err)
		case string(got) != f.want:
			v.wrong("%s shows something else than %s", f.name, report.JSONName)
		}
	}
	for _, res := range v.Results {
		for _, e := range res.Evidence {
			if _, err := os.Stat(filepath.Join(v.dir, e.File)); err != nil {
				v.problems = append(v.problems, fmt.Errorf("evidence of %s: %w", res.Name(), err))
			}
		}
	}
}

// brief shortens a hash.
func brief(hash string) string {
	const shown = 12
	return cmp.Or(hash[:min(shown, len(hash))], "none")
}
