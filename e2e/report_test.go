package e2e_test

import (
	"encoding/xml"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

func readReport(t *testing.T, dir string) *report.Report {
	t.Helper()
	// The schema is strict: it describes exactly what a run writes.
	r, err := report.ReadFile(filepath.Join(dir, report.JSONName))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readEvidence(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "evidence", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// section returns the text under a title of an evidence file.
func section(t *testing.T, evidence, title string) string {
	t.Helper()
	_, text, found := strings.Cut(evidence, "\n== "+title+"\n")
	if !found {
		t.Fatalf("no section %q in:\n%s", title, evidence)
	}
	text, _, _ = strings.Cut(text, "\n\n== ")
	return strings.TrimSpace(text)
}

// The parts that differ from run to run.
var (
	number   = regexp.MustCompile(`none of \d+`)
	macs     = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)
	duration = regexp.MustCompile(`\d+(\.\d+)?m?s\b`)
)

// TestReport runs macvlan alone with a label filter, which fails, and reads what was written.
func TestReport(t *testing.T) {
	holdLab(t)
	dir, conflist := t.TempDir(), writeConflist(t, "", macvlan)
	output, status := ginkgoRun(t, ginkgoRequest{
		Conflist: conflist, ReportDir: dir, Entry: "RunSpecs", Labels: "A01 || D02",
	})
	if status != 0 {
		t.Fatalf("got status %d, want 0: RunSpecs leaves the verdict to its report\n%s", status, output)
	}
	r := readReport(t, dir)
	for _, unset := range []struct {
		what  string
		unset bool
	}{
		{"kernel", r.Kernel == ""},
		{"started", r.Started.IsZero()},
		{"durationSeconds", r.DurationSeconds <= 0},
		{"implementation.plugins[0].sha256", len(r.Implementation.Plugins) > 0 && len(r.Implementation.Plugins[0].SHA256) != 64},
	} {
		if unset.unset {
			t.Errorf("%s is not set", unset.what)
		}
	}
	var hostToPod report.Result
	var got []report.Result
	for _, result := range r.Results {
		if result.ID == "host-to-pod" {
			hostToPod = result
		}
		got = append(got, report.Result{
			ID: result.ID, Kind: result.Kind, Plugin: result.Plugin, Level: result.Level,
			Result: result.Result, Covers: result.Covers,
		})
	}
	want := []report.Result{
		{
			ID: "del-without-netns", Kind: "scenario", Plugin: "chain", Level: report.Core, Result: report.Pass,
			Covers: []string{"D02", "DEL-3", "DEL-5", "E02", "E03"},
		},
		{
			ID: "host-to-pod", Kind: "scenario", Plugin: "chain", Level: report.Core, Result: report.Fail,
			Covers: []string{"A01", "A02", "A03", "A09", "I08"},
		},
		{ID: "DEL-5", Kind: "requirement", Plugin: "host-local", Level: report.Should, Result: report.Pass, Covers: []string{"D02", "E02", "E03"}},
		{ID: "DEL-5", Kind: "requirement", Plugin: "macvlan", Level: report.Should, Result: report.Pass, Covers: []string{"D02", "E02", "E03"}},
		{
			ID: "leaves-nothing", Kind: "requirement", Plugin: "macvlan", Level: report.Must, Result: report.Pass,
			Covers: []string{"DEL-1", "C07", "D13", "E07", "I05", "I07"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if r.Verdict != report.NotConformant {
		t.Errorf("got verdict %s, want %s", r.Verdict, report.NotConformant)
	}
	wantHead := report.Report{
		APIVersion: "cnitest/v1alpha1", Kind: "ConformanceReport", Verdict: report.NotConformant,
		Suite: report.Suite{Version: "v0.0.1"},
		Implementation: report.Implementation{Conflist: conflist, CNIVersion: "1.0.0", Plugins: []report.Plugin{
			{Type: "macvlan", UnderTest: true}, {Type: "host-local"},
		}},
		Profile: "underlay", Backend: "netns", Scores: []report.Score{},
	}
	compareInputs(t, conflist, r)
	head := *r
	head.Kernel, head.Started, head.DurationSeconds, head.Results, head.Residue, head.Notes = "", wantHead.Started, 0,
		nil, nil, nil
	head.Lab, head.FailureModes, head.CallTimes = nil, nil, nil
	if head.Inputs == nil || head.Inputs.Selection != "A01 || D02" || head.Digest == "" {
		t.Errorf("got inputs %v and digest %q, want the selection and a digest", head.Inputs, head.Digest)
	}
	head.Inputs, head.Digest = nil, ""
	for i := range head.Implementation.Plugins {
		// It was built from a dependency of this module, so go.mod determines the version.
		head.Implementation.Plugins[i].SHA256, head.Implementation.Plugins[i].Version = "", ""
	}
	if diff := cmp.Diff(wantHead, head); diff != "" {
		t.Errorf("report without its lists (-want +got):\n%s", diff)
	}
	compareWords(t, conflist, r, hostToPod)
	compareEvidence(t, dir, hostToPod)
	compareJUnit(t, dir, r)
}

// compareInputs compares what a report says of its run with the run, and its hashes with its content.
func compareInputs(t *testing.T, conflist string, r *report.Report) {
	t.Helper()
	text, err := os.ReadFile(conflist)
	if err != nil {
		t.Fatal(err)
	}
	in := r.Inputs
	if in == nil || len(in.Files) != 1 || in.Files[0] != report.NewInputFile("net.conflist", text) {
		t.Fatalf("got inputs %+v, want the conflist", in)
	}
	if in.Selection != "A01 || D02" || !strings.HasPrefix(in.Command, "cnitest run "+conflist+" --bin-dir ") ||
		!strings.HasSuffix(in.Command, " --label-filter 'A01 || D02'") {
		t.Errorf("got the selection %q and the command %s, want those of the run", in.Selection, in.Command)
	}
	if in.SHA256 != r.InputsSum() || r.Digest != r.Sum() || len(in.Questions) != len(r.Digest) {
		t.Errorf("got the hashes %s and %s, want those of inputs and report", in.SHA256, r.Digest)
	}
}

// compareWords compares the parts of a report that explain it to a reader who knows no IDs.
func compareWords(t *testing.T, conflist string, r *report.Report, hostToPod report.Result) {
	t.Helper()
	wantLab := &report.Lab{
		Networks: []string{"192.168.0.0/16"},
		Nodes: []report.LabNode{
			{Name: "node/a", Uplink: "eno1", Addresses: []string{"192.168.0.2"}, Pods: 126},
			{Name: "node/b", Uplink: "eno1", Addresses: []string{"192.168.0.3"}, Pods: 127},
		},
		Hosts: []report.LabHost{
			{Name: "host/external", Addresses: []string{"192.0.2.2"}, Behind: "host/router"},
			{Name: "host/lan", Addresses: []string{"192.168.0.4"}},
			{Name: "host/router", Addresses: []string{"192.168.0.1"}},
		},
	}
	if diff := cmp.Diff(wantLab, r.Lab); diff != "" {
		t.Errorf("lab (-want +got):\n%s", diff)
	}
	bin, _, _ := strings.Cut(hostToPod.Repeat, " --backend")
	_, bin, _ = strings.Cut(bin, " --bin-dir ")
	for _, text := range []struct{ what, got, want string }{
		{"title", hostToPod.Title, "A node and a pod on it reach each other, and neither sees the other behind a translated address."},
		{"why", hostToPod.Why, "The kubelet's probes need this. Plain macvlan fails here: the kernel keeps a parent device and its children apart."},
		{"repeat", hostToPod.Repeat, "cnitest run " + conflist + " --bin-dir " + bin + " --backend 'my own' --profile underlay --scenario host-to-pod"},
	} {
		if text.got != text.want {
			t.Errorf("%s: got %q, want %q", text.what, text.got, text.want)
		}
	}
	for _, res := range r.Results {
		if res.Title == "" || res.Title == res.ID {
			t.Errorf("%s: got the title %q, want a sentence", res.ID, res.Title)
		}
		if res.Result == report.Pass && res.Repeat != "" {
			t.Errorf("%s: got a command that repeats a pass: %s", res.ID, res.Repeat)
		}
	}
	var modes []string
	for _, m := range r.FailureModes {
		modes = append(modes, m.ID)
	}
	if diff := cmp.Diff([]string{
		"A01", "A02", "A03", "A09", "C07", "D02", "D13", "E02", "E03", "E07", "I05", "I07", "I08",
	}, modes); diff != "" {
		t.Errorf("failure modes (-want +got):\n%s", diff)
	}
}

// compareEvidence compares the evidence of a node that cannot reach its pod.
func compareEvidence(t *testing.T, dir string, result report.Result) {
	t.Helper()
	evidence := readEvidence(t, dir, "host-to-pod.txt")
	var titles []string
	for _, e := range result.Evidence {
		titles = append(titles, e.Title)
	}
	if diff := cmp.Diff([]string{
		"step", "path of the packets", "routes", "what the kernels say", "macvlan ADD",
		"macvlan CHECK", "state of node/a against the start",
	}, titles); diff != "" {
		t.Errorf("titles of the evidence (-want +got):\n%s", diff)
	}
	// The line is the one in the folder scenarios.
	data, err := os.ReadFile("../scenarios/host-to-pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	step := section(t, evidence, "step")
	const probe = ": probe tcp 8080 node/a → pod/server, seen as node/a, within 1s, first try"
	file, found := strings.CutSuffix(step, probe)
	lines := strings.Split(string(data), "\n")
	if !found || !strings.HasPrefix(lines[16], "- probe: {from: node/a, to: pod/server, protocol: tcp") ||
		!strings.HasSuffix(file, "host-to-pod.yaml:17") {
		t.Errorf("got step %q, want host-to-pod.yaml:17%s", step, probe)
	}
	if text := section(t, evidence, "path of the packets"); !strings.Contains(text,
		"ARP who has 192.168.1.2 tell 192.168.0.2") {
		t.Errorf("got no question of ARP in the path of the packets:\n%s", text)
	}
	if diff := cmp.Diff("node/a: 192.168.1.2 dev eno1 src 192.168.0.2\npod/server: 192.168.0.2 dev eth0 src "+
		"192.168.1.2", section(t, evidence, "routes")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if text := section(t, evidence, "state of node/a against the start"); !strings.Contains(text,
		"+ file /var/lib/cni/networks/net/192.168.1.2:") {
		t.Errorf("got no reservation in the state of the node:\n%s", text)
	}
	if !strings.HasPrefix(evidence, "host-to-pod (chain): fail\n"+result.Reason+"\n\n== step\n") {
		t.Errorf("got another head than result and reason:\n%s", evidence)
	}
}

// junit contains the parts of a JUnit file that are compared.
type junit struct {
	Suites []struct {
		Tests   int `xml:"tests,attr"`
		Skipped int `xml:"skipped,attr"`
		Cases   []struct {
			Name   string  `xml:"name,attr"`
			Status string  `xml:"status,attr"`
			Time   float64 `xml:"time,attr"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// compareJUnit checks that each spec has a test case with the outcome and the duration in the report.
func compareJUnit(t *testing.T, dir string, r *report.Report) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var file junit
	if err := xml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Suites) != 1 {
		t.Fatalf("got %d suites, want 1", len(file.Suites))
	}
	suite := file.Suites[0]
	type testCase struct {
		Status string
		Time   float64
	}
	got := map[string]testCase{}
	specs := 0
	for _, c := range suite.Cases {
		if !strings.HasPrefix(c.Name, "[It] ") {
			continue
		}
		specs++
		if c.Status == "passed" || c.Status == "failed" {
			name, _, _ := strings.Cut(strings.TrimPrefix(c.Name, "[It] net "), " [")
			got[name] = testCase{c.Status, math.Round(c.Time*1000) / 1000}
		}
	}
	// It has no result if it succeeds, and its time is that of the whole preparation.
	want := map[string]testCase{contract.FirstAttachment: {"passed", got[contract.FirstAttachment].Time}}
	for _, result := range r.Results {
		status := "passed"
		if result.Result != report.Pass {
			status = "failed"
		}
		name := result.Name()
		if result.ID == contract.LeavesNothing {
			name = contract.LeavesNothing
		}
		want[name] = testCase{status, result.DurationSeconds}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("test cases that ran (-want +got):\n%s", diff)
	}
	if want := countSpecs(t); specs != want {
		t.Errorf("got %d specs, want %d: the scenarios, the requirements of two plugins, first-attachment and "+
			"leaves-nothing", specs, want)
	}
}

// countSpecs returns the number of specs in a run of macvlan, which is under test, with host-local.
func countSpecs(t *testing.T) int {
	t.Helper()
	shipped, err := filepath.Glob("../scenarios/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n := len(shipped) + 2
	for _, r := range contract.Requirements() {
		for _, role := range []contract.Role{contract.Main, contract.IPAM} {
			if r.Checked() && r.Of(role) && (!r.Sweeps() || role == contract.Main) {
				n++
			}
		}
	}
	return n
}

// TestReport_call checks that a failed call is shown so that it can be repeated by hand.
func TestReport_call(t *testing.T) {
	holdLab(t)
	dir := t.TempDir()
	output, status := ginkgoRun(t, ginkgoRequest{
		Conflist: writeConflist(t, "", afterRoute("short-id")...), ReportDir: dir, Entry: "Run",
		Names: "long-container-ids",
	})
	if status != 1 {
		t.Fatalf("got status %d, want 1\n%s", status, output)
	}
	call := section(t, readEvidence(t, dir, "long-container-ids.txt"), "broken ADD")
	call = duration.ReplaceAllString(macs.ReplaceAllString(call, "MAC"), "TIME")
	environment, call, _ := strings.Cut(call, "\n$ ")
	variables := strings.Split(environment, "\n")
	slices.Sort(variables) // libcni builds them from a map
	if last := len(variables) - 1; strings.HasPrefix(variables[last], "PATH=/") {
		variables[last] = "PATH=PATH"
	}
	const id = "7f3c9be15a6d0428c1e7f9a4b35d6820e4c97a1fb06d83527c9e41fa0b6d38c1"
	wantVariables := []string{
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=long-container-ids;K8S_POD_NAME=second;K8S_POD_INFRA_CONTAINER_ID=" + id,
		"CNI_COMMAND=ADD", "CNI_CONTAINERID=" + id, "CNI_IFNAME=eth0", "CNI_NETNS=/var/run/netns/second",
		"CNI_PATH=/opt/cni/bin",
		"PATH=PATH",
	}
	if diff := cmp.Diff(wantVariables, variables); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	want := `/opt/cni/bin/broken
stdin:  {"child":"eno1.host","cniVersion":"1.0.0","endpoint":"192.168.1.128:8080","fault":"short-id","master":"eno1","name":"net","prevResult":` +
		`{"cniVersion":"1.0.0","interfaces":[{"mac":"MAC","name":"eth0","sandbox":"/var/run/netns/second"},{"mac":"MAC","name":"eno1.host"}],` +
		`"ips":[{"address":"192.168.1.3/16","gateway":"192.168.0.1","interface":0}],"routes":[{"dst":"0.0.0.0/0"}]},"service":"10.96.0.10:53","type":"broken"}
stdout: {
    "code": 999,
    "msg": "file exists"
}
stderr:
exit status 1 after TIME`
	if diff := cmp.Diff(want, strings.ReplaceAll(call, "stderr: \n", "stderr:\n")); diff != "" {
		t.Errorf("call (-want +got):\n%s", diff)
	}
}
