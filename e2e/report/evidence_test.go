package report_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

// TestWriteEvidence writes what results name, into a directory that has the evidence of an earlier report.
func TestWriteEvidence(t *testing.T) {
	failed := report.Result{ID: "host-to-pod", Plugin: "chain", Result: report.Fail, Reason: "no reply"}
	failed.Evidence = []report.Evidence{
		{Title: "packets", Text: "a > b", File: "evidence/host-to-pod.pcapng"}, {Title: "routes", Text: "default"},
	}
	excused := failed
	excused.LabFails(errors.New("the machine was too busy"))
	for _, tt := range []struct {
		name   string
		result report.Result
		want   map[string]string
	}{
		{"a failure", failed, map[string]string{
			"host-to-pod.txt": "host-to-pod (chain): fail\nno reply\n" +
				"\n== packets\na > b\n(the packets themselves: host-to-pod.pcapng)\n\n== routes\ndefault\n",
			"host-to-pod.pcapng": "frames",
		}},
		// Its packets were captured before the lab was to blame.
		{"a failure of the lab", excused, map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			dir := t.TempDir()
			check(os.Mkdir(filepath.Join(dir, report.EvidenceDir), 0o755))
			check(os.WriteFile(filepath.Join(dir, report.EvidenceDir, "old.txt"), nil, 0o644))
			r := report.Report{Results: []report.Result{tt.result}}
			check(r.WriteEvidence(dir, map[string][]byte{"host-to-pod.pcapng": []byte("frames")}))
			got := map[string]string{}
			files, _ := os.ReadDir(filepath.Join(dir, report.EvidenceDir))
			for _, f := range files {
				data, err := os.ReadFile(filepath.Join(dir, report.EvidenceDir, f.Name()))
				check(err)
				got[f.Name()] = string(data)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}
