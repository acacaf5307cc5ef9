package e2e_test

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/backend/cri"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/report"
)

var criTools = flag.String("cri-tools", "", "directory of what make cri-tools builds; empty leaves out TestCRI")

// TestCRI runs sound and broken plugins under a containerd.
func TestCRI(t *testing.T) {
	if *criTools == "" {
		t.Skip("make e2e-cri runs it: it needs a containerd")
	}
	for _, tt := range []struct {
		name, defect     string
		chain            []string
		scenario, reason string
		want             report.Outcome
	}{
		{
			name: "sound", defect: "none", chain: []string{macvlan, route},
			scenario: "runtime-*", want: report.Pass,
		},
		{
			name: "macvlan alone", defect: "none", chain: []string{macvlan},
			scenario: "host-to-pod", want: report.Fail, reason: "the kernel keeps such a device and its parent apart",
		},
		{
			name: "DEL that needs the result", defect: "needs-prevresult", chain: []string{macvlan, route},
			scenario: "runtime-add-fails", want: report.Fail, reason: "macvlan: prevResult: want one, got none",
		},
		{
			name: "DEL that does nothing without the result", chain: []string{macvlan, route},
			defect:   "does-nothing-without-prevresult",
			scenario: "runtime-killed-in-add", want: report.Fail, reason: "+ file /var/lib/cni/networks/net/192.168.1.",
		},
		{
			name: "STATUS that is never content", defect: "never-ready", chain: []string{macvlan, route},
			scenario: "runtime-status-polled", want: report.Fail, reason: "NetworkReady: NetworkPluginNotReady: ",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeConflist(t, "", tt.chain...)
			setVersion(t, path, "1.1.0")
			file, err := conflist.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			backend, err := cri.Open(cri.Options{Tools: *criTools, Command: backend().Command})
			if err != nil {
				t.Fatal(err)
			}
			suite, err := e2e.New(e2e.Options{
				Conflist: path, BinDir: install(t, file, map[string]string{"macvlan": tt.defect}), Backend: backend,
				Plugins: []string{"macvlan"}, Select: e2e.Selection{Names: tt.scenario},
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, sc := range suite.Scenarios() {
				suite.Run(t.Context(), sc)
			}
			r, err := suite.Finish()
			if err != nil {
				t.Fatal(err)
			}
			failures := slices.DeleteFunc(r.Results, func(res report.Result) bool { return res.Result == report.Pass })
			asWanted := func(r report.Result) bool {
				return r.Result == tt.want && strings.Contains(r.Reason, tt.reason)
			}
			switch {
			case tt.want == report.Pass && len(failures) == 0:
			case tt.want == report.Pass:
				t.Errorf("got %s of %s: %s, want that all pass", failures[0].Result, failures[0].ID, failures[0].Reason)
			case len(failures) == 0 || !asWanted(failures[0]):
				t.Errorf("got %v, want %s because of %s", failures, tt.want, tt.reason)
			}
		})
	}
}
