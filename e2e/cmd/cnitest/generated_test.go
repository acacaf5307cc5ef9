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
	"github.com/cnitest/cnitest/scenarios"
)

var update = flag.Bool("update", false, "write the generated tables into the READMEs")

// The marks around a generated table.
const (
	beginMark = "<!-- BEGIN scenarios -->\n"
	endMark   = "<!-- END scenarios -->\n"
)

// replaceTable puts the table of scenarios between its marks.
func replaceTable(text, table string) (string, error) {
	return replaceBetween(text, beginMark, endMark, table)
}

// replaceBetween puts a generated part between the marks of a text.
func replaceBetween(text, beginMark, endMark, table string) (string, error) {
	if strings.Count(text, beginMark) != 1 || strings.Count(text, endMark) != 1 {
		return "", fmt.Errorf("want one line %q and one line %q", strings.TrimSpace(beginMark),
			strings.TrimSpace(endMark))
	}
	head, rest, _ := strings.Cut(text, beginMark)
	_, tail, ok := strings.Cut(rest, endMark)
	if !ok {
		return "", fmt.Errorf("want %q before %q", strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	return head + beginMark + table + endMark + tail, nil
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
			path := filepath.Join("../../..", tt.file)
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := replaceTable(string(got), scenario.Markdown(all))
			if err != nil {
				t.Fatalf("%s: %v", tt.file, err)
			}
			if *update {
				err := os.WriteFile(path, []byte(want), 0o644)
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(got), want); diff != "" {
				t.Errorf("%s: the table is not that of the scenarios; run make generate; got, want:\n%s", tt.file, diff)
			}
		})
	}
}

// TestGenerated_sentences compares README's figures about the specification with the tables.
func TestGenerated_sentences(t *testing.T) {
	all, err := contract.Sentences()
	if err != nil {
		t.Fatal(err)
	}
	of, asked, requirements := map[string]int{}, map[string]int{}, 0
	for _, s := range all {
		of[s.Who]++
		if s.Asked != nil {
			asked[s.Who]++
		}
	}
	for _, r := range contract.Requirements() {
		if r.Section != "failure mode" {
			requirements++
		}
	}
	figures := fmt.Sprintf("SPEC.md and CONVENTIONS.md have %d sentences that demand, recommend or allow something: %d "+
		"bind plugins, of which\n%d are asked, %d bind runtimes. %d requirements ask them.\n", len(all), of["plugin"],
		asked["plugin"], of["runtime"], requirements)
	const path = "../../../README.md"
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := replaceBetween(string(got), "<!-- BEGIN sentences -->\n", "<!-- END sentences -->\n", figures)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("README.md: the figures are not those of the tables; run make generate; got, want:\n%s", diff)
	}
}

func TestReplaceTable(t *testing.T) {
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
			got, err := replaceTable(tt.text, "new\n")
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
