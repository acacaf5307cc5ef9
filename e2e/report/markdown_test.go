package report_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

func TestReport_Markdown(t *testing.T) {
	for _, name := range []string{"full", "empty"} {
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile("testdata/" + name + ".md")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), read(t, name+".json").Markdown()); diff != "" {
				t.Errorf("Markdown (-want +got):\n%s", diff)
			}
		})
	}
}

// However long a report is, its Markdown is below the limit, says what it leaves out, and closes everything that it
// opens.
func TestReport_Markdown_limit(t *testing.T) {
	long := strings.Repeat("ä line with `marks`, ``` and | <b>\n", 3000)
	failure := func(i int, reason, text string) report.Result {
		return report.Result{
			ID: fmt.Sprintf("scenario-%d", i), Kind: "scenario", Plugin: report.Chain, Level: report.Core,
			Result: report.Fail,
			Reason: reason, Evidence: []report.Evidence{{Title: "step", Text: text}},
		}
	}
	many := func(n int, reason, text string) *report.Report {
		r := of()
		for i := range n {
			r.Results = append(r.Results, failure(i, reason, text))
		}
		return r
	}
	notes := of(report.Result{Plugin: report.Chain, Result: report.Pass})
	for range 2000 {
		notes.Notes = append(notes.Notes, strings.Repeat("note ", 20))
	}
	plugins := of()
	for range 2000 {
		plugins.Implementation.Plugins = append(plugins.Implementation.Plugins, report.Plugin{Type: "some-plugin"})
	}
	const below = "To stay below 60 KB, this leaves out "
	for _, tt := range []struct {
		name string
		in   *report.Report
		want string // of the sentence; empty if nothing is left out
	}{
		{"one failure", many(1, "short", "short"), ""},
		{"one long text", many(1, long, long), ""},
		{"evidence", many(30, "short", long), below + "the evidence of 16 failures; report.html has all."},
		{"failures", many(2000, "short", "short"), below + "595 of 2000 failures, the evidence of 1405 failures; report.html has all."},
		{"notes", notes, below + "the end of long lists; report.html has all."},
		{"plugins", plugins, below + "the end of long lists; report.html has all."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.in.Markdown()
			if len(got) >= 60_000 {
				t.Errorf("got %d bytes, want less than 60000", len(got))
			}
			if !utf8.ValidString(got) {
				t.Error("got a letter cut in two")
			}
			sentence := ""
			if _, rest, found := strings.Cut(got, "_"+below); found {
				sentence, _, _ = strings.Cut(below+rest, "_\n")
			}
			if sentence != tt.want {
				t.Errorf("got %q, want %q", sentence, tt.want)
			}
			if opened, closed := strings.Count(got, "<details>"), strings.Count(got, "</details>"); opened != closed {
				t.Errorf("got %d details opened and %d closed", opened, closed)
			}
		})
	}
}

// The content of a report is shown as text, whatever it looks like.
func TestReport_Markdown_escapes(t *testing.T) {
	r := of(report.Result{
		ID: "attach", Kind: "scenario", Plugin: report.Chain, Result: report.Fail,
		Reason: "<b>a|b</b> *c* `d`; \"e_f\"",
	})
	const want = `**&lt;b&gt;a\|b&lt;/b&gt; \*c\* \` + "`d\\`" + `**;<br>
**&#34;e\_f&#34;**
`
	if got := r.Markdown(); !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant in it\n%s", got, want)
	}
}
