package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/trackrecord"
	"github.com/cnitest/cnitest/scenarios"
)

var update = flag.Bool("update", false, "write the generated tables into the READMEs")

// replaceTable puts a generated part between the marks of a text, which name what it is about.
func replaceTable(text, what, table string) (string, error) {
	begin, end := fmt.Sprintf("<!-- BEGIN %s -->\n", what), fmt.Sprintf("<!-- END %s -->\n", what)
	if strings.Count(text, begin) != 1 || strings.Count(text, end) != 1 {
		return "", fmt.Errorf("want one line %q and one line %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	head, rest, _ := strings.Cut(text, begin)
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("want %q before %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return head + begin + table + end + tail, nil
}

// checkGenerated checks that a file has a generated part between its marks, or writes it there. target is the make
// target that does that.
func checkGenerated(t *testing.T, path, what, target, table string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := replaceTable(string(got), what, table)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s: what it says of the %s is not generated; run make %s; (-want +got):\n%s", path, what, target, diff)
	}
}

func TestGenerated(t *testing.T) {
	for _, tt := range []struct{ file, links string }{
		{"scenarios/README.md", ""},
		{"README.md", "scenarios/"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			all, err := scenario.Load(scenarios.Files)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range all {
				s.File = tt.links + s.File
			}
			checkGenerated(t, filepath.Join("../../..", tt.file), "scenarios", "generate", scenario.Markdown(all))
		})
	}
}

// TestGenerated_sentences compares README's figures about the specification with the tables.
func TestGenerated_sentences(t *testing.T) {
	all, err := contract.Sentences()
	if err != nil {
		t.Fatal(err)
	}
	of, asked, requirements := map[string]int{}, map[string]int{}, map[bool]int{}
	for _, s := range all {
		of[s.Who]++
		if s.Asked != nil {
			asked[s.Who]++
		}
	}
	for _, r := range contract.Requirements() {
		if r.Section != "failure mode" {
			requirements[r.Of(contract.Runtime)]++
		}
	}
	figures := fmt.Sprintf("SPEC.md and CONVENTIONS.md have %d sentences that demand, recommend or allow something: %d "+
		"bind plugins, of which\n%d are asked, %d bind runtimes, of which %d are asked. %d requirements of plugins and "+
		"%d of runtimes ask them.\n", len(all), of["plugin"],
		asked["plugin"], of["runtime"], asked["runtime"], requirements[false], requirements[true])
	checkGenerated(t, "../../../README.md", "sentences", "generate", figures)
}

// TestGenerated_failure_modes compares README's number of failure modes with their table.
func TestGenerated_failure_modes(t *testing.T) {
	modes, err := contract.FailureModes()
	if err != nil {
		t.Fatal(err)
	}
	number := fmt.Sprintf("`cnitest list failure-modes` lists %d ways in which plugins failed their users, and the tests "+
		"that notice each of them.\n", len(modes))
	checkGenerated(t, "../../../README.md", "failure modes", "generate", number)
}

// TestGenerated_track_record compares the page of the track record, and README's figure, with its table.
func TestGenerated_track_record(t *testing.T) {
	const dir = "../../trackrecord"
	table, err := trackrecord.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	checkGenerated(t, filepath.Join(dir, "README.md"), "track record", "generate", table.Markdown())
	checkGenerated(t, "../../../README.md", "track record", "generate", table.Figure())
}

// TestVerbs_are_documented names verbs that the page for authors of scenarios leaves out.
func TestVerbs_are_documented(t *testing.T) {
	page, err := os.ReadFile("../../../scenarios/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(page), "- One verb per step: ")
	list, _, _ = strings.Cut(list, ". ")
	for _, verb := range scenario.Verbs() {
		if !strings.Contains(list, "`"+verb+"`") {
			t.Errorf("scenarios/README.md: its list of verbs has no `%s`", verb)
		}
	}
}

func TestReplaceTable(t *testing.T) {
	const beginMark, endMark = "<!-- BEGIN scenarios -->\n", "<!-- END scenarios -->\n"
	for _, tt := range []struct{ name, text, want, wantErr string }{
		{name: "old table", text: "a\n" + beginMark + "old\n" + endMark + "b\n", want: "a\n" + beginMark + "new\n" + endMark + "b\n"},
		{name: "no table", text: beginMark + endMark, want: beginMark + "new\n" + endMark},
		{name: "no marks", text: "a\n", wantErr: `want one line "<!-- BEGIN scenarios -->" and one line "<!-- END scenarios -->"`},
		{name: "no end", text: beginMark, wantErr: `want one line "<!-- BEGIN scenarios -->" and one line "<!-- END scenarios -->"`},
		{
			name: "two tables", text: beginMark + endMark + beginMark + endMark,
			wantErr: `want one line "<!-- BEGIN scenarios -->" and one line "<!-- END scenarios -->"`,
		},
		{name: "end before beginning", text: endMark + beginMark, wantErr: `want "<!-- BEGIN scenarios -->" before "<!-- END scenarios -->"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := replaceTable(tt.text, "scenarios", "new\n")
			gotErr := ""
			if err != nil {
				gotErr = err.Error()
			}
			if got != tt.want || gotErr != tt.wantErr {
				t.Errorf("got %q, %q, want %q, %q", got, gotErr, tt.want, tt.wantErr)
			}
		})
	}
}
