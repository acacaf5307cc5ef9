package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/target"
)

// TestReports checks that the tables of e2e/reports and of the repository agree with the reports, and that this version
// could have written the reports.
func TestReports(t *testing.T) {
	const dir = "../../reports"
	readmes := []struct{ path, toReports, table string }{
		{path: dir + "/README.md"},
		{path: "../../../README.md", toReports: "e2e/reports/"},
	}
	files, err := filepath.Glob(dir + "/*/" + report.JSONName)
	if err != nil || len(files) == 0 {
		t.Fatalf("want reports, got %v, %v", files, err)
	}
	for _, file := range files {
		r, err := report.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range readmes {
			readmes[i].table += reportRow(readmes[i].toReports, filepath.Base(filepath.Dir(file)), r)
		}
		checkPages(t, filepath.Dir(file), r)
	}
	for _, readme := range readmes {
		checkGenerated(t, readme.path, "reports", "reports",
			"| report | plugins | profile | verdict | counts | pages |\n|---|---|---|---|---|---|\n"+readme.table)
	}
}

// checkPages checks that the pages of a published report are those that this version makes of it, or writes them. If
// values are measured in another way than when the report was made, make reports is what helps.
func checkPages(t *testing.T, dir string, r *report.Report) {
	t.Helper()
	var html bytes.Buffer
	if err := r.WriteHTML(&html); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{report.HTMLName: html.String(), report.MarkdownName: r.Markdown()} {
		path := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s (%v): it is not what this version makes of %s; run make reports", path, err, report.JSONName)
		}
	}
}

// TestTargets_of_upstream checks that the target files of upstream's plugins name the version that make build builds.
func TestTargets_of_upstream(t *testing.T) {
	const dir, upstream = "../../thirdparty/net.d/", "github.com/containernetworking/plugins"
	data, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	module, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, require := range module.Require {
		if require.Mod.Path == upstream {
			want = require.Mod.Version
		}
	}
	for _, name := range []string{"bridge", "macvlan", "ptp"} {
		file, err := target.Load(dir + name + ".target.yaml")
		if err != nil {
			t.Error(err)
			continue
		}
		if got := file.Implementation; got == nil || got.Version != want {
			t.Errorf("%s: got implementation %+v, want version %s, as in go.mod", name, got, want)
		}
	}
}

func reportRow(toReports, name string, r *report.Report) string {
	var plugins []string
	for _, p := range r.Implementation.Plugins {
		if p.UnderTest {
			p.Type = "**" + p.Type + "**"
		}
		plugins = append(plugins, p.Type)
	}
	var pages []string
	for _, page := range []string{report.HTMLName, report.MarkdownName, report.JSONName} {
		pages = append(pages, fmt.Sprintf("[%s](%s%s/%s)", strings.TrimPrefix(filepath.Ext(page), "."), toReports, name,
			page))
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n",
		name, strings.Join(plugins, " + "), r.Profile, r.Verdict, r.Tally(), strings.Join(pages, " "))
}
