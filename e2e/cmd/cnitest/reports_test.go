package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
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
		for _, name := range []string{report.HTMLName, report.MarkdownName} {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), name)); err != nil {
				t.Error(err)
			}
		}
	}
	for _, readme := range readmes {
		checkReportTable(t, readme.path, "reports",
			"| report | plugins | profile | verdict | counts | pages |\n|---|---|---|---|---|---|\n"+readme.table)
	}
}

// checkReportTable checks that a file has the table between the marks of what is published, or writes it there.
func checkReportTable(t *testing.T, path, what, table string) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := fmt.Sprintf("<!-- BEGIN %s -->\n", what), fmt.Sprintf("<!-- END %s -->\n", what)
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s: want the lines %q and %q", path, begin, end)
	}
	want := head + begin + table + end + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(old)); diff != "" {
		t.Errorf("%s: the table is not that of the %s; run make %s; (-want +got):\n%s", path, what, what, diff)
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
