package report_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/cnitest/cnitest/e2e/report"
)

func TestReport_WriteSARIF(t *testing.T) {
	r := read(t, "macvlan.json")
	conf := "{\n  \"plugins\": [\n    {\"type\": \"macvlan\"}\n  ]\n}\n"
	r.Inputs = &report.Inputs{Files: []report.InputFile{report.NewInputFile("net.conflist", []byte(conf))}}
	var text strings.Builder
	if err := r.WriteSARIF(&text); err != nil {
		t.Fatal(err)
	}
	document, err := sarif.FromString(text.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(); err != nil {
		t.Errorf("the schema of SARIF 2.1.0: %v", err)
	}
	type found struct {
		Level, File, Base string
		Line              int
		Conflist          int
	}
	got := map[string]found{}
	for _, res := range document.Runs[0].Results {
		at := res.Locations[0].PhysicalLocation
		f := found{Level: res.Level, File: *at.ArtifactLocation.URI, Line: *at.Region.StartLine}
		if base := at.ArtifactLocation.URIBaseID; base != nil {
			f.Base = *base
		}
		if len(res.RelatedLocations) > 0 {
			f.Conflist = *res.RelatedLocations[0].PhysicalLocation.Region.StartLine
		}
		got[res.PartialFingerprints["cnitest/v1"]] = f
	}
	failures := 0
	for _, res := range r.Results {
		if r.Counts(res) && (res.Result == report.Fail || res.Result == report.Vacuous && res.Level != report.Should) {
			failures++
		}
	}
	if len(got) != failures || failures == 0 {
		t.Errorf("got %d results, want the %d failures", len(got), failures)
	}
	want := map[string]found{
		"underlay host-to-pod":   {"error", "scenarios/host-to-pod.yaml", "CNITEST", 17, 1},
		"underlay DLG-3 macvlan": {"error", "net.d/10-plain.conflist", "", 3, 0},
	}
	for name, want := range want {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, part := range []string{
		`"uri": "https://github.com/cnitest/cnitest/blob/v0.1.0/"`, "cnitest run net.d/10-plain.conflist",
	} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("want %s in it", part)
		}
	}
}

// A report without failures has no results, which is a list nevertheless.
func TestReport_WriteSARIF_nothing(t *testing.T) {
	var text strings.Builder
	if err := read(t, "empty.json").WriteSARIF(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), `"results": []`) {
		t.Errorf("got\n%s\nwant an empty list of results", &text)
	}
}
