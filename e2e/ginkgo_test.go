package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// ginkgoRequest is a Ginkgo suite that runs in a separate process.
type ginkgoRequest struct {
	Conflist  string           `json:"conflist"`
	BinDir    string           `json:"binDir"`
	Profile   scenario.Profile `json:"profile"`
	Names     string           `json:"names"`
	ReportDir string           `json:"reportDir"`
	// Entry is the function that runs it: "Run", "RunSpecs" or "Describe".
	Entry string `json:"entry"`
	// Labels is the label filter for RunSpecs.
	Labels string `json:"labels"`
}

// verdict is the outcome that a Go test would get.
type verdict struct{ failed bool }

func (v *verdict) Fail() { v.failed = true }

// runGinkgo runs in that process. It returns 0 if everything passed, 1 if something failed, and otherwise 2.
func runGinkgo(text string) int {
	var r ginkgoRequest
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	options := e2e.Options{
		Conflist: r.Conflist, BinDir: r.BinDir, Backend: backend(), Profile: r.Profile,
		Select: e2e.Selection{Names: r.Names}, ReportDir: r.ReportDir, Version: "v0.0.1",
	}
	options.Repeat = func(r report.Result) string { return options.Command(r.ID, "--backend", "my own") }
	var t verdict
	var err error
	switch r.Entry {
	case "Run":
		_, err = e2e.Run(&t, options)
	case "RunSpecs":
		var suite *e2e.Suite
		if suite, err = e2e.New(options); err == nil {
			_, err = suite.RunSpecs(context.Background(), r.Labels)
		}
	case "Describe":
		e2e.Describe(options)
		ginkgo.Describe("somebody's own suite", func() { ginkgo.It("has specs beside these", func() {}) })
		ginkgo.RunSpecs(&t, "own suite")
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 2
	case t.failed:
		return 1
	}
	return 0
}

// ginkgoRun starts this test binary as a Ginkgo suite and returns what it printed and its exit status.
func ginkgoRun(t *testing.T, r ginkgoRequest) (output string, status int) {
	t.Helper()
	if r.BinDir == "" {
		r.BinDir = plugins(t).plugins
	}
	request, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), suiteVariable+"="+string(request), "GINKGO_NO_COLOR=TRUE")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestDescribe adds the specs to another Ginkgo suite.
func TestDescribe(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none.conflist")
	for _, tt := range []struct {
		name    string
		request ginkgoRequest
		status  int
		want    []string // parts of Ginkgo's output
	}{
		{
			"all pass",
			ginkgoRequest{Conflist: writeConflist(t, "", macvlan, route), Names: "del-t*"},
			0,
			[]string{"Running Suite: own suite", "Ran 4 of 4 Specs", "4 Passed | 0 Failed"},
		},
		{
			"one fails",
			ginkgoRequest{Conflist: writeConflist(t, "", macvlan, naive), Names: "del-t*"},
			1,
			[]string{"Ran 4 of 4 Specs", "[FAIL] net [It] del-twice [core, CleanUp, DEL-4, E05, K02]", "panic: runtime error"},
		},
		{
			"a file is missing",
			ginkgoRequest{Conflist: missing},
			1,
			[]string{"Ran 2 of 2 Specs", "[It] reads " + missing, "open " + missing + ": no such file or directory"},
		},
		{
			"what nobody claims is skipped",
			ginkgoRequest{Conflist: writeConflist(t, "", ptp), Names: "host-to-pod", Profile: scenario.ProfileCNI},
			0,
			[]string{"Ran 2 of 4 Specs", "2 Passed | 0 Failed", "2 Skipped"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			holdLab(t)
			tt.request.Entry = "Describe"
			output, status := ginkgoRun(t, tt.request)
			if status != tt.status {
				t.Errorf("got status %d, want %d", status, tt.status)
			}
			for _, part := range tt.want {
				if !strings.Contains(output, part) {
					t.Errorf("want %q in the output", part)
				}
			}
			if t.Failed() {
				t.Log(output)
			}
		})
	}
}
