package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/expectation"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/target"
)

// TestInit checks that the written files are valid without edits, and that none is written twice.
func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mynet")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (project{}).write(dir, &out); err != nil {
		t.Fatal(err)
	}
	if _, err := conflist.Load(filepath.Join(dir, "net.d/10-mynet.conflist")); err != nil {
		t.Error(err)
	}
	if _, err := target.Load(filepath.Join(dir, "net.d/10-mynet.target.yaml")); err != nil {
		t.Error(err)
	}
	if _, err := expectation.Load(filepath.Join(dir, "net.d/10-mynet.expected.yaml")); err != nil {
		t.Error(err)
	}
	before := contents(t, dir)
	for file, text := range before {
		if strings.Contains(text, "<<") {
			t.Errorf("%s: want no delimiters of the template in it, got\n%s", file, text)
		}
	}
	if err := (project{Type: "other", Conflist: "net.d/10-mynet.conflist"}).write(dir, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("the second call changed files (-before +after):\n%s", diff)
	}
	files := []string{
		"net.d/10-mynet.conflist", "net.d/10-mynet.target.yaml", "net.d/10-mynet.expected.yaml", "cnitest.mk",
		".github/workflows/cnitest.yml",
	}
	next := "next: build the plugins of net.d/10-mynet.conflist into " + dir +
		"/bin, then: make -f cnitest.mk cnitest\n"
	want := ""
	for _, said := range []string{"wrote", "left "} {
		for _, file := range files {
			want += said + " " + filepath.Join(dir, file) + "\n"
		}
		want += next
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInit_comments checks that the text in comments is valid too when the comment sign is removed.
func TestInit_comments(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if err := (project{Type: "mynet"}).write(dir, &out); err != nil {
		t.Fatal(err)
	}
	files := contents(t, dir)
	uncomment := regexp.MustCompile(`(?m)^# (setup:|- |daemon:|  |cloud:|features:)`)
	text := uncomment.ReplaceAllString(files["net.d/10-mynet.target.yaml"], "$1")
	if got, err := target.Parse("target.yaml", []byte(text)); err != nil || got.Daemon == nil || got.Cloud == nil ||
		len(got.Setup) != 1 {
		t.Errorf("got %+v, %v, want all of it, of\n%s", got, err, text)
	}
	text = uncomment.ReplaceAllString(strings.Replace(files["net.d/10-mynet.expected.yaml"], "deviations: []",
		"deviations:", 1), "$1")
	if got, err := expectation.Parse("expected.yaml", []byte(text)); err != nil || len(got.Deviations) != 2 ||
		len(got.Features) != 2 {
		t.Errorf("got %+v, %v, want all of it, of\n%s", got, err, text)
	}
}

func TestInit_mistakes(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, dir, want string
		project         project
	}{
		{"no directory", filepath.Join(dir, "none"), "init: stat " + dir + "/none: no such file or directory", project{}},
		{"a type that is no file name", dir, `init: plugin type "my/net": want the name of its binary; say it with --type`, project{Type: "my/net"}},
		{"a conflist elsewhere", dir, `init: --conflist "../my.conflist": want a path below ` + dir, project{Conflist: "../my.conflist"}},
		{"a conflist with a path from the root", dir, `init: --conflist "/my.conflist": want a path below ` + dir, project{Conflist: "/my.conflist"}},
		{"no such conflist", dir, "open " + dir + "/my.conflist: no such file or directory", project{Conflist: "my.conflist"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.project.write(tt.dir, &bytes.Buffer{})
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// contents returns the files below a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// thirdParty returns a copy of the example plugin in an empty directory.
func thirdParty(t *testing.T) string {
	t.Helper()
	from, err := filepath.Abs("../../examples/thirdparty")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "toyvlan")
	for file, text := range contents(t, from) {
		if strings.HasPrefix(file, "bin/") || strings.HasPrefix(file, "_artifacts/") {
			continue
		}
		if file == "go.mod" {
			text = strings.Replace(text, "=> ../../..", "=> "+filepath.Join(from, "../../.."), 1)
		}
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestInit_workflow runs the files that init wrote as GitHub would: the build and the action, on the example plugin.
func TestInit_workflow(t *testing.T) {
	dir := thirdParty(t)
	r := newRunner(t, dir)
	if err := (project{Conflist: "net.d/10-toyvlan.conflist"}).write(dir, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		Jobs map[string]struct {
			Steps []workflowStep `yaml:"steps"`
		} `yaml:"jobs"`
	}
	readYAML(t, filepath.Join(dir, ".github/workflows/cnitest.yml"), &workflow)
	pinned := regexp.MustCompile(`^actions/[a-z-]+@[0-9a-f]{40}$`)
	var outputs map[string]string
	for _, step := range workflow.Jobs["conformance"].Steps {
		switch {
		case strings.HasPrefix(step.Uses, "cnitest/cnitest@"):
			// the complete run takes half a minute
			step.With["arguments"] = "--scenario del-* --quick"
			var ok bool
			if outputs, ok = r.action(step.With); !ok {
				t.Error("action: want success")
			}
		case step.Uses != "":
			if !pinned.MatchString(step.Uses) {
				t.Errorf("%s: want an action that is pinned by its commit", step.Uses)
			}
		case !r.shell(step):
			t.Errorf("step %q: want success", step.Name)
		}
	}
	if diff := cmp.Diff(map[string]string{
		"verdict": "conformant", "report": "_artifacts/cnitest", "sarif": "_artifacts/cnitest/cnitest.sarif",
		"comment": "",
	}, outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	summary, err := os.ReadFile(r.summary)
	if err != nil || !strings.Contains(string(summary), "conformant") {
		t.Errorf("got the summary %q, %v, want the verdict in it", summary, err)
	}
	for _, name := range []string{"report.json", "report.html", "report.md", "junit.xml"} {
		if _, err := os.Stat(filepath.Join(dir, "_artifacts/cnitest", name)); err != nil {
			t.Error(err)
		}
	}
}

// TestAction_fails checks that the action fails with the verdict if the plugin does, and says nothing about a report if
// there is none.
func TestAction_fails(t *testing.T) {
	dir := thirdParty(t)
	r := newRunner(t, dir)
	if !r.shell(workflowStep{Name: "build", Run: "make build"}) {
		t.Fatal("want the example built")
	}
	before := &report.Report{
		APIVersion: report.APIVersion, Kind: report.Kind, Verdict: report.Conformant,
		Results: []report.Result{{
			ID: "host-to-pod", Kind: "scenario", Plugin: report.Chain, Level: report.Core, Result: report.Pass,
		}},
	}
	if err := before.WriteFile(filepath.Join(dir, "before.json")); err != nil {
		t.Fatal(err)
	}
	outputs, ok := r.action(map[string]string{
		"conflist": "net.d/10-toyvlan.conflist", "profile": "underlay", "arguments": "--scenario host-to-pod",
		"report-dir": "out", "baseline": "before.json",
	})
	if diff := cmp.Diff(map[string]string{
		"verdict": "not-conformant", "report": "out", "sarif": "out/cnitest.sarif", "comment": "out/comment.md",
	}, outputs); ok || diff != "" {
		t.Errorf("got success %v, outputs (-want +got):\n%s", ok, diff)
	}
	for name, want := range map[string]string{
		"comment.md": "**host-to-pod** pass -&gt; fail", "cnitest.sarif": `"ruleId": "host-to-pod"`,
	} {
		if text, err := os.ReadFile(filepath.Join(dir, "out", name)); err != nil || !strings.Contains(string(text),
			want) {
			t.Errorf("%s: got %v,\n%s\nwant %s in it", name, err, text, want)
		}
	}
	outputs, ok = r.action(map[string]string{"conflist": "none.conflist", "report-dir": "none"})
	if diff := cmp.Diff(map[string]string{"verdict": "", "report": "", "sarif": "", "comment": ""}, outputs); ok || diff != "" {
		t.Errorf("no conflist: got success %v, outputs (-want +got):\n%s", ok, diff)
	}
}

// TestInit_network starts from one of several NetworkAttachmentDefinitions.
func TestInit_network(t *testing.T) {
	dir := t.TempDir()
	text := ""
	for _, name := range []string{"lan", "wan"} {
		text += "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {name: " + name + "}\n" +
			"spec:\n  config: '{\"cniVersion\": \"1.0.0\", \"type\": \"mynet\"}'\n---\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "nads.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	err := (project{Conflist: "nads.yaml"}).write(dir, &bytes.Buffer{})
	want := filepath.Join(dir, "nads.yaml") + ": 2 networks; choose one with --network: lan, wan"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := (project{Conflist: "nads.yaml", Network: "wan"}).write(dir, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"cnitest.mk":                    "$(CNITEST) run nads.yaml --network wan --bin-dir",
		".github/workflows/cnitest.yml": "expect: nads.expected.yaml\n        arguments: --network wan\n",
		"nads.expected.yaml":            "{plugin: mynet,",
	} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: %v, want %q in it, got:\n%s", name, err, want, data)
		}
	}
}
