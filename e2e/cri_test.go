package e2e_test

import (
	"cmp"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/backend/cri"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/target"
)

var (
	criTools    = flag.String("cri-tools", "", "directory of what make cri-tools builds; empty leaves out TestCRI")
	oldCRITools = flag.String("old-cri-tools", "", "the same of make cri-1-tools; empty leaves out TestCRI_upgraded")
)

// criCase is a chain under a containerd, with a defect in the plugin of its first item unless defective names another.
type criCase struct {
	name, defect, defective string
	chain                   []string
	target                  *target.Target
	scenario, reason        string
	want                    report.Outcome
}

// dies returns a case in which a defect of macvlan fails a scenario for a reason.
func dies(scenario, defect, reason string) criCase {
	return criCase{
		name: defect + " in " + scenario, defect: defect, chain: []string{macvlan, route},
		scenario: scenario, want: report.Fail, reason: reason,
	}
}

func criCases() []criCase {
	const reservation = "+ file /var/lib/cni/networks/net/192.168.1."
	cut := dies("runtime-killed-in-del", "fails-on-loss", "route: ")
	cut.defective = "route"
	return []criCase{
		{
			name: "sound", defect: "none", chain: []string{macvlan, route},
			scenario: "runtime-*", want: report.Pass,
		},
		{
			name: "macvlan alone", defect: "none", chain: []string{macvlan},
			scenario: "host-to-pod", want: report.Fail, reason: "the kernel keeps such a device and its parent apart",
		},
		dies("runtime-add-fails", "needs-prevresult", "macvlan: prevResult: want one, got none"),
		dies("runtime-add-given-up", "does-nothing-without-prevresult", reservation),
		dies("runtime-status-polled", "never-ready", "NetworkReady: NetworkPluginNotReady: "),
		dies("runtime-status-polled", "computes-in-status", "a status, which a kubelet asks for every 5s, takes"),
		{
			name: "runtime-pod-starts", defect: "none", chain: afterRoute("drops-incoming"),
			scenario: "runtime-pod-starts", want: report.Fail, reason: "asks pod/web at 192.168.1.",
		},
		dies("runtime-killed-before-add", "keeps-strangers", "+ file /run/broken/stranger-"),
		dies("runtime-killed-in-add", "does-nothing-without-prevresult", reservation),
		dies("runtime-killed-after-add", "does-nothing-without-prevresult", reservation),
		dies("runtime-killed-before-sandbox", "keeps-runtime", "process: want "),
		cut,
		dies("runtime-killed-after-del", "fails-on-loss", "macvlan: "),
		dies("runtime-killed-in-removal", "fails-without-attachment", ": unknown"),
		dies("runtime-restarted", "keeps-runtime", "process: want "),
		dies("runtime-rebooted", "needs-namespace", reservation),
		dies("runtime-shutdown", "needs-namespace", reservation),
		dies("runtime-conflist-replaced", "keeps-version", "cniVersion: want 1."),
		dies("runtime-two-networks", "refuses-strangers", "it was never added"),
		{
			name: "waits-for-daemon", defect: "waits-for-daemon", defective: "routed-eni",
			chain:  []string{`{"type": "routed-eni", "socket": "/run/ipamd/ipamd.sock"}`},
			target: ipamd(plenty()), scenario: "runtime-del-while-daemon-hangs", want: report.Fail,
			reason: "longer while ipamd hangs, want at most 1.5s",
		},
		{
			name: "routed-eni", defect: "none", defective: "routed-eni", target: ipamd(plenty()),
			chain:    []string{`{"type": "routed-eni", "socket": "/run/ipamd/ipamd.sock"}`},
			scenario: "runtime-del-while-daemon-hangs", want: report.Pass,
		},
	}
}

// TestCRI runs sound and broken plugins under a containerd.
func TestCRI(t *testing.T) {
	if *criTools == "" {
		t.Skip("make e2e-cri runs it: it needs a containerd")
	}
	for _, tt := range criCases() {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, "") })
	}
}

// TestCRI_upgraded replaces a containerd under the pods of sound and broken plugins.
func TestCRI_upgraded(t *testing.T) {
	if *criTools == "" || *oldCRITools == "" {
		t.Skip("make e2e-cri-1 runs it: it needs two containerds")
	}
	sound := criCase{
		name: "sound", defect: "none", chain: []string{macvlan, route}, scenario: "runtime-upgraded", want: report.Pass,
	}
	for _, tt := range []criCase{sound, dies("runtime-upgraded", "keeps-runtime", "process: want ")} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, *oldCRITools) })
	}
}

// run runs the scenarios; old is the directory of an earlier containerd, or empty.
func (tt criCase) run(t *testing.T, old string) {
	plugin := cmp.Or(tt.defective, "macvlan")
	path := writeConflist(t, "", tt.chain...)
	setVersion(t, path, "1.1.0")
	file, err := conflist.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	backend, err := cri.Open(cri.Options{Tools: *criTools, OldTools: old, Command: backend().Command})
	if err != nil {
		t.Fatal(err)
	}
	binDir := install(t, file, map[string]string{plugin: tt.defect})
	if tt.target != nil {
		daemon := tt.target.Daemon.Command[0]
		err := os.Link(filepath.Join(plugins(t).plugins, daemon), filepath.Join(binDir, daemon))
		if err != nil {
			t.Fatal(err)
		}
	}
	suite, err := e2e.New(e2e.Options{
		Conflist: path, BinDir: binDir, Backend: backend,
		Plugins: []string{plugin}, Target: tt.target, Select: e2e.Selection{Names: tt.scenario},
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
	failures := slices.DeleteFunc(r.Results, func(res report.Result) bool {
		// One scenario needs a daemon.
		return res.Result == report.Pass || res.Result == report.NotClaimed
	})
	asWanted := func(r report.Result) bool {
		return r.Result == tt.want && strings.Contains(r.Reason, tt.reason)
	}
	switch {
	case tt.want == report.Pass && len(failures) == 0:
	case tt.want == report.Pass:
		t.Errorf("got %s of %s: %s, want that all pass", failures[0].Result, failures[0].ID, failures[0].Reason)
	case !slices.ContainsFunc(failures, asWanted):
		t.Errorf("got %v, want %s because of %s", failures, tt.want, tt.reason)
	}
}
