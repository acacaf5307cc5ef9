package contract

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/disk"
)

// working returns an outage of two ADDs, of which each renames a record into its place, and a DEL of the first.
func working() *outage {
	o := &outage{Recording: disk.Recording{Before: []disk.File{{Path: "/v", Mode: fs.ModeDir | 0o755}}}}
	pods := []*pod{{name: "old-1", result: []byte("1")}, {name: "old-2", result: []byte("2")}}
	for _, p := range pods {
		path := "/v/" + p.name
		o.Calls = append(o.Calls,
			disk.Call{Kind: disk.Create, Path: path + ".new"}, disk.Call{Kind: disk.Write, Path: path + ".new", Data: []byte("text")},
			disk.Call{Kind: disk.Rename, Path: path + ".new", To: path},
		)
		o.ends = append(o.ends, phase{cni.Add, p, len(o.Calls)})
	}
	o.Calls = append(o.Calls, disk.Call{Kind: disk.Remove, Path: "/v/old-1"})
	o.ends = append(o.ends, phase{cni.Del, pods[0], len(o.Calls)})
	o.disks = o.Disks()
	return o
}

func TestOutage_of(t *testing.T) {
	o := working()
	for verb, want := range map[cni.Verb][2]int{cni.Add: {0, 6}, cni.Del: {7, 7}, cni.GC: {1, 0}} {
		for _, d := range o.of(verb) {
			if d.After < want[0] || d.After > want[1] {
				t.Errorf("%s: got the disk %s, want cuts after %d to %d calls", verb, d.String(), want[0], want[1])
			}
		}
	}
	if got := len(o.of(cni.Add)) + len(o.of(cni.Del)); got != len(o.disks) {
		t.Errorf("got %d disks, want each of %d in one verb", got, len(o.disks))
	}
}

func TestOutage_oldPods(t *testing.T) {
	o := working()
	for after, want := range map[int]string{
		0: "old-1", 2: "old-1", 3: "old-1=1", 4: "old-1=1 old-2",
		7: "old-1=1 old-2=2",
	} {
		var got []string
		for _, p := range o.oldPods(after) {
			got = append(got, strings.TrimSuffix(p.name+"="+string(p.result), "="))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("after %d calls: got %q, want %q", after, got, want)
		}
	}
}

// Disks with a damaged record come before those that a killed program leaves, and every kind has its turn.
func TestOutage_sample(t *testing.T) {
	o := working()
	all := blackouts(o.of(cni.Add))
	var kinds []string
	for _, c := range o.sample(slices.Clone(all), 4, 1) {
		kinds = append(kinds, c.kind())
	}
	want := []string{
		"empty /v/old-#", "zeros /v/old-#", "empty /v/old-#, empty /v/old-#", "zeros /v/old-#, empty /v/old-#",
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := o.sample(slices.Clone(all), 1000, 1); len(got) != len(all) {
		t.Errorf("got %d, want all %d", len(got), len(all))
	}
	for _, c := range all {
		token := &Token{plugin: "p", requirement: Find("POWER-ADD"), one: c.String()}
		parsed, err := ParseToken(token.String())
		if err != nil {
			t.Fatal(err)
		}
		again, err := o.choose(all, &Exploration{Replay: parsed}, 4)
		if err != nil || len(again) != 1 || again[0].String() != c.String() || parsed.Requirement() != "POWER-ADD" ||
			parsed.Plugin() != "p" {
			t.Errorf("%s: got %v, %v", token, again, err)
		}
	}
	_, err := o.choose(all, &Exploration{Replay: &Token{"p", Find("POWER-ADD"), "cache:99"}}, 4)
	if want := "no case of POWER-ADD is cache:99: p now makes other calls"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCombined(t *testing.T) {
	pristine := []agent.File{{Path: "/v"}, {Path: "/v/d"}, {Path: "/v/d/x"}, {Path: "/v/e"}, {Path: "/v/f"}}
	got := combined(pristine, disk.Disk{Files: []disk.File{{Path: "/v"}, {Path: "/v/f", Data: []byte("new")}}, Gone: []string{"/v/d"}})
	want := []agent.File{{Path: "/v/e"}, {Path: "/v"}, {Path: "/v/f", Data: []byte("new")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
