package versions

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/report/matrix"
)

// TestConflists reads each conflist that the repository has.
func TestConflists(t *testing.T) {
	files, err := filepath.Glob("net.d/*/*.conflist")
	if err != nil || len(files) < 10 {
		t.Fatalf("got %q, %v, want a file for each plugin", files, err)
	}
	for _, file := range files {
		list, err := conflist.Load(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if name := strings.TrimSuffix(filepath.Base(file), ".conflist"); !slices.Contains(list.Types(), name) {
			t.Errorf("%s: it has no plugin %s, but %q", file, name, list.Types())
		}
	}
}

func TestRunner_jobs(t *testing.T) {
	r := &Runner{Conflists: "net.d", Modules: "../trackrecord/versions", Plugins: []string{"ptp", "bridge"}, Programs: "p"}
	list := func() (got []string) {
		t.Helper()
		jobs, err := r.jobs()
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			got = append(got, j.plugin+" "+j.version+" "+j.programs)
		}
		return got
	}
	r.Versions = []string{"v1.10.0", "v1.9.1"}
	want := []string{
		"bridge v1.9.1 p/plugins-v1.9.1", "bridge v1.10.0 p/plugins-v1.10.0",
		"ptp v1.9.1 p/plugins-v1.9.1", "ptp v1.10.0 p/plugins-v1.10.0",
	}
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.Shard, r.Shards = 2, 3
	if diff := cmp.Diff(want[1:2], list()); diff != "" {
		t.Errorf("second of three parts (-want +got):\n%s", diff)
	}
	r.Shard, r.Shards, r.Versions = 0, 0, []string{"v0.9.0", "v0.9.1"}
	r.Plugins = []string{"ptp", "whereabouts"}
	want = []string{"ptp v0.9.1 p/plugins-v0.9.1", "whereabouts v0.9.0 p/whereabouts-v0.9.0"}
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Errorf("two projects (-want +got):\n%s", diff)
	}
	r.Plugins, r.Versions = []string{"ptp", "weave"}, []string{"v0.1"}
	if _, err := r.jobs(); err == nil || !strings.Contains(err.Error(), `version "v0.1": want one of v1.20.4, `) ||
		!strings.Contains(err.Error(), `plugin "weave": want one of routed-eni-cni-plugin, bandwidth, `) {
		t.Errorf("got %v, want an error about both names", err)
	}
}

// bed is a directory with a program that writes a report in place of cnitest, and with plugins that only know VERSION.
type bed struct {
	*Runner
	dir string
	log *strings.Builder
}

func newBed(t *testing.T) bed {
	t.Helper()
	b := bed{dir: t.TempDir(), log: &strings.Builder{}}
	published, err := filepath.Abs("../reports/ptp/report.json")
	if err != nil {
		t.Fatal(err)
	}
	// It says of the plugins what the report of the published run says, with the version that its directory names.
	b.write(t, "cnitest", `#!/bin/sh
echo "$@" >> `+b.dir+`/calls
version=${4##*plugins-}
mkdir -p "$6" && sed "s/\"version\": \"v1[0-9.]*\"/\"version\": \"$version\"/" `+published+` > "$6/report.json"
exit 1
`)
	b.write(t, "net.d/plugins/ptp.conflist", `{"cniVersion": "1.1.0", "name": "ptp", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.23.0.0/16"}}]}`)
	for version, supported := range map[string]string{"v1.0.1": `"0.4.0", "1.0.0"`, "v1.9.1": `"0.4.0", "1.0.0", "1.1.0"`} {
		b.write(t, "modules/plugins-"+version+"/go.mod", "module x\n")
		for _, name := range []string{"ptp", "host-local"} {
			b.write(t, "programs/plugins-"+version+"/"+name, fmt.Sprintf(
				"#!/bin/sh\n# %s %s\necho '{\"cniVersion\": \"0.4.0\", \"supportedVersions\": [%s]}'\n", name, version, supported))
		}
	}
	b.Runner = &Runner{
		Cnitest: b.dir + "/cnitest", Conflists: b.dir + "/net.d", Modules: b.dir + "/modules", Programs: b.dir +
			"/programs",
		Out: b.dir + "/out", Log: b.log,
	}
	return b
}

func (b bed) write(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(b.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// run does what Run does after the build, and returns the command lines of cnitest so far.
func (b bed) run(t *testing.T) (*matrix.Matrix, []string) {
	t.Helper()
	jobs, err := b.jobs()
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.runJobs(context.Background(), jobs)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := os.ReadFile(b.dir + "/calls")
	if err != nil {
		t.Fatal(err)
	}
	return m, strings.Split(strings.TrimSpace(strings.ReplaceAll(string(calls), b.dir, "DIR")), "\n")
}

// Each version is run once, at the newest version of the specification that its plugins know.
func TestRunner(t *testing.T) {
	b := newBed(t)
	m, calls := b.run(t)
	const want = " --plugin ptp --profile cni --quick --label-filter !contract || ptp"
	if len(calls) != 2 || !strings.HasSuffix(calls[0], want) || !strings.Contains(calls[1], want+" --like ") {
		t.Errorf("got calls %q, want one for each version, the second with the report of the first", calls)
	}
	var versions []string
	for _, v := range m.Plugins[0].Versions {
		versions = append(versions, v.Version)
	}
	if diff := cmp.Diff([]string{"v1.0.1", "v1.9.1"}, versions); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for version, want := range map[string]string{"v1.0.1": `"cniVersion": "1.0.0"`, "v1.9.1": `"cniVersion": "1.1.0"`} {
		if text, err := os.ReadFile(b.dir + "/out/net.d/ptp-" + version + ".conflist"); err != nil ||
			!strings.Contains(string(text), want) {
			t.Errorf("%s: got %v, %s, want %s in it", version, err, text, want)
		}
	}
	if _, err := os.Stat(b.dir + "/out/matrix.html"); err != nil {
		t.Error(err)
	}
	if _, calls = b.run(t); len(calls) != 2 {
		t.Errorf("got calls %q, want no further ones: nothing has changed", calls)
	}
	for _, tt := range []struct {
		name  string
		file  string
		text  string
		calls int
	}{
		{"another binary", "programs/plugins-v1.9.1/host-local", "#!/bin/sh\necho '{\"supportedVersions\": [\"1.0.0\"]}'\n", 1},
		{"another conflist", "net.d/plugins/ptp.conflist", `{"cniVersion": "1.1.0", "name": "ptp", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.24.0.0/16"}}]}`, 2},
		{"another suite", "cnitest", "", 2},
	} {
		before := len(calls)
		if tt.text == "" {
			old, _ := os.ReadFile(b.Cnitest)
			tt.text = string(old) + "# changed\n"
		}
		b.write(t, tt.file, tt.text)
		if _, calls = b.run(t); len(calls)-before != tt.calls {
			t.Errorf("%s: got %d further runs, want %d", tt.name, len(calls)-before, tt.calls)
		}
	}
}

// TestRunner_same_code has a version whose programs are those of the one before.
func TestRunner_same_code(t *testing.T) {
	b := newBed(t)
	b.write(t, "modules/plugins-v1.9.2/go.mod", "module x\n")
	for _, name := range []string{"ptp", "host-local"} {
		text, err := os.ReadFile(b.dir + "/programs/plugins-v1.9.1/" + name)
		if err != nil {
			t.Fatal(err)
		}
		b.write(t, "programs/plugins-v1.9.2/"+name, string(text))
	}
	m, calls := b.run(t)
	var versions, reports []string
	for _, v := range m.Plugins[0].Versions {
		versions, reports = append(versions, v.Version), append(reports, v.Report)
	}
	if diff := cmp.Diff([]string{"v1.0.1", "v1.9.1", "v1.9.2"}, versions); diff != "" || len(calls) != 2 {
		t.Errorf("got %d runs, want 2; versions (-want +got):\n%s", len(calls), diff)
	}
	if reports[1] != reports[2] || reports[0] == reports[1] {
		t.Errorf("got reports %q, want that of v1.9.1 for v1.9.2, too", reports)
	}
	want := []string{"ptp v1.9.2: its programs are those of v1.9.1, whose report it has"}
	if diff := cmp.Diff(want, m.Notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

// TestRunner_together runs two plugins at the same time: each version but the first has the report of the one before.
func TestRunner_together(t *testing.T) {
	b := newBed(t)
	b.Together = 2
	text, err := os.ReadFile(b.dir + "/net.d/plugins/ptp.conflist")
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "net.d/plugins/host-local.conflist", string(text))
	jobs, err := b.jobs()
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		if err := j.prepare(t.Context(), b.Runner, "suite", hashOfCode); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.runAll(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	calls, err := os.ReadFile(b.dir + "/calls")
	if err != nil {
		t.Fatal(err)
	}
	for _, plugin := range []string{"ptp", "host-local"} {
		var runs []bool
		for line := range strings.Lines(string(calls)) {
			if strings.Contains(line, "--plugin "+plugin+" ") {
				runs = append(runs, strings.Contains(line, " --like "))
			}
		}
		if diff := cmp.Diff([]bool{false, true}, runs); diff != "" {
			t.Errorf("%s: runs with the report before (-want +got):\n%s", plugin, diff)
		}
	}
}

// A report for which the lab failed is none.
func TestRunner_lab_failed(t *testing.T) {
	b := newBed(t)
	_, calls := b.run(t)
	files, err := filepath.Glob(b.dir + "/out/reports/*/report.json")
	if err != nil || len(files) != 2 {
		t.Fatalf("got %q, %v, want two reports", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	failed := strings.Replace(string(text), `"result": "pass",`, `"result": "skipped", "labFailed": true,`, 1)
	if err := os.WriteFile(files[0], []byte(failed), 0o644); err != nil {
		t.Fatal(err)
	}
	before := len(calls)
	if _, calls = b.run(t); len(calls) != before+1 {
		t.Errorf("got %d further runs, want one", len(calls)-before)
	}
}

func TestRunner_lacks(t *testing.T) {
	b := newBed(t)
	if err := os.Remove(b.dir + "/programs/plugins-v1.0.1/ptp"); err != nil {
		t.Fatal(err)
	}
	m, calls := b.run(t)
	if diff := cmp.Diff([]string{"ptp v1.0.1: it has no ptp"}, m.Notes); diff != "" || len(calls) != 1 {
		t.Errorf("got calls %q and notes (-want +got):\n%s", calls, diff)
	}
}

func TestRunner_nothing_in_common(t *testing.T) {
	b := newBed(t)
	b.write(t, "programs/plugins-v1.9.1/host-local", "#!/bin/sh\necho '{\"supportedVersions\": [\"0.2.0\"]}'\n")
	jobs, err := b.jobs()
	if err != nil {
		t.Fatal(err)
	}
	const want = "ptp v1.9.1: the plugins ptp, host-local know no version of the specification in common"
	if _, err := b.runJobs(context.Background(), jobs); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
