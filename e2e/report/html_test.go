package report_test

import (
	"bytes"
	"html"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

func render(t *testing.T, r *report.Report) string {
	t.Helper()
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

func read(t *testing.T, name string) *report.Report {
	t.Helper()
	r, err := report.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// attribute returns the values of an attribute in a page.
func attribute(page, name string) []string {
	var values []string
	for _, match := range regexp.MustCompile(` `+name+`="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		values = append(values, match[1])
	}
	return values
}

// Each result and failure mode has one place on the page, and each link leads to such a place or to a file beside the
// page.
func TestReport_WriteHTML_links(t *testing.T) {
	for _, name := range []string{"macvlan.json", "full.json", "empty.json"} {
		t.Run(name, func(t *testing.T) {
			r := read(t, name)
			page := render(t, r)
			ids := attribute(page, "id")
			if sorted := slices.Sorted(slices.Values(ids)); len(slices.Compact(sorted)) != len(ids) {
				t.Errorf("got ids %q, want each once", ids)
			}
			results := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
				return !strings.HasPrefix(id, "r-")
			})
			if len(results) != len(r.Results) {
				t.Errorf("got %d places %q, want %d", len(results), results, len(r.Results))
			}
			var files []string
			for _, link := range attribute(page, "href") {
				id, inside := strings.CutPrefix(link, "#")
				if inside && !slices.Contains(ids, id) {
					t.Errorf("got a link to %q, which is not on the page", id)
				}
				if !inside && link != "data:," {
					files = append(files, link)
				}
			}
			want := map[string][]string{
				"macvlan.json": {"captures/host-to-pod.pcapng"}, "full.json": {"https://example.org/mynet", "captures/del-twice%20%231.pcapng"},
			}[name]
			if diff := cmp.Diff(want, files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// The content of a report is shown as text, whatever it looks like.
func TestReport_WriteHTML_escapes(t *testing.T) {
	r := read(t, "full.json")
	const bad = `<script>alert("1")</script>`
	r.Results[1].Title, r.Results[1].Reason, r.Results[1].Repeat, r.Results[1].ID = bad, bad, bad, bad
	r.Results[1].Evidence = []report.Evidence{{Title: bad, Text: bad, File: "javascript:alert(1)"}}
	r.Implementation.Plugins[0].Type, r.Notes[0], r.FailureModes[0].Symptom, r.Lab.Nodes[0].Name,
		r.Residue[0].Change = bad, bad, bad, bad, bad
	page := render(t, r)
	if strings.Contains(page, "<script") {
		t.Errorf("got a script in the page, want its text:\n%s", page)
	}
	if links := attribute(page, "href"); slices.ContainsFunc(links, func(l string) bool {
		return strings.HasPrefix(l, "javascript:")
	}) {
		t.Errorf("got links %q, want none that runs", links)
	}
	if got, least := strings.Count(page, "&lt;script&gt;"), 9; got < least {
		t.Errorf("got %d of the texts, want %d or more", got, least)
	}
}

// A failure shows what users rely on, what happened, what it looks like to users and how to repeat it. Its evidence is
// open, that of findings is not, and passes are folded.
func TestReport_WriteHTML_failure(t *testing.T) {
	page := html.UnescapeString(render(t, read(t, "macvlan.json")))
	_, rest, found := strings.Cut(page, `id="r-host-to-pod"`)
	article, _, closed := strings.Cut(rest, "</article>")
	if !found || !closed {
		t.Fatal("got no article about host-to-pod")
	}
	for _, want := range []string{
		"A node and a pod on it reach each other, and neither sees the other behind a translated address.",
		"the kernel keeps such a device and its parent apart",
		"Own node cannot reach macvlan pod",
		"cnitest run net.d/10-plain.conflist --bin-dir bin --profile underlay --scenario host-to-pod",
		`<details open class="evidence"><summary>path of the packets</summary>`,
		`<pre class="aligned" tabindex="0">`,
		`<span class="came">+ mount /run/netns/server: `,
	} {
		if !strings.Contains(article, want) {
			t.Errorf("got an article without %q:\n%s", want, article)
		}
	}
	for want, times := range map[string]int{
		`<details><summary>pass (11)</summary>`:                       1,
		`<details open><summary>known-upstream: forced by others`:     1,
		`<section id="findings">`:                                     1,
		`<article class="failure"`:                                    9,
		`<summary>vacuous, where the specification says SHOULD (2)`:   1,
		`<text class="name" x="56" y="`:                               4,
		`<text class="name" x="100" y="`:                              1, // behind the router
		`<a class="chip fail other" href="#r-STA-5-host-local" title`: 2,
	} {
		if got := strings.Count(page, want); got != times {
			t.Errorf("%s: got %d times, want %d", want, got, times)
		}
	}
}

func TestReport_WriteHTML_changes(t *testing.T) {
	page := html.UnescapeString(render(t, read(t, "full.json")))
	for _, want := range []string{
		`<span class="came">+ route 192.168.1.2/32</span>`,
		`<span class="went">- link eth1</span>`,
		`<span class="changed"><span class="went">~ link eno1: up</span> → <span class="came">down</span></span>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("got a page without %s", want)
		}
	}
}
