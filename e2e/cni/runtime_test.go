package cni_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/contract"
)

// recorded is a conflist of three plugins. The outcome's calls contain their input.
const recorded = `{"cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.1.0", "1.0.0", "7.0.0"], "name": "net", "plugins": [
	{"type": "first", "capabilities": {"portMappings": true}, "strange": {"deep": [1, "two"]}},
	{"type": "middle", "ipam": {"type": "pool"}, "capabilities": {"mac": true}},
	{"type": "last", "strange": null, "cni.dev/own": "value"}]}`

// recorders returns the plugins of the chain. Each adds an interface of its name to the result. It fails for the verbs
// that its file "fails" contains.
func recorders(tb testing.TB, fails ...string) string {
	tb.Helper()
	scripts := map[string]string{}
	result := `{"cniVersion":"1.1.0","interfaces":[{"name":"first"}`
	for _, name := range []string{"first", "middle", "last"} {
		if name != "first" {
			result += `,{"name":"` + name + `"}`
		}
		script := `cat >/dev/null; [ "$CNI_COMMAND" != ADD ] || echo '` + result + `]}'; readlink /proc/self/ns/net >&2`
		for _, f := range fails {
			if plugin, verb, _ := strings.Cut(f, " "); plugin == name {
				script = `cat >/dev/null; [ "$CNI_COMMAND" != ` + verb +
					` ] || { echo '{"cniVersion":"1.1.0","code":100,"msg":"` + name + ` says no"}'; exit 1; }; ` +
					script
			}
		}
		scripts[name] = script
	}
	return plugins(tb, scripts)
}

func record(tb testing.TB, verb cni.Verb, conflist, dir string) *cni.Outcome {
	tb.Helper()
	req := request(verb, conflist, dir)
	req.CapabilityArgs = map[string]any{"portMappings": []int{80}, "mac": "02:00:00:00:00:01", "bandwidth": 1}
	out, err := cni.Run(tb.Context(), req, nil)
	check(tb, err)
	return out
}

func who(out *cni.Outcome) []string {
	var names []string
	for _, c := range out.Calls {
		names = append(names, c.Plugin+" "+string(c.Verb))
	}
	return names
}

func stdin(tb testing.TB, c cni.Call) map[string]any {
	tb.Helper()
	var config map[string]any
	check(tb, json.Unmarshal([]byte(c.Stdin), &config))
	return config
}

func equal(tb testing.TB, got, want any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("(-want +got):\n%s", diff)
	}
}

// runtimeTests returns for each requirement on runtimes the test that shows that the driver meets it.
func runtimeTests() map[string]func(t *testing.T) {
	three := func(verb string) []string { return []string{"first " + verb, "middle " + verb, "last " + verb} }
	reversed := []string{"last DEL", "middle DEL", "first DEL"}
	return map[string]func(t *testing.T){
		"CFG-1": func(t *testing.T) {
			for _, name := range []string{"-net", "a/b", "", ".."} {
				out := record(t, cni.Add, strings.Replace(recorded, `"net"`, `"`+name+`"`, 1), recorders(t))
				if out.Failure == nil || len(out.Calls) > 0 {
					t.Errorf("name %q: got %v after the calls %v, want a failure before any", name, out.Err(), who(out))
				}
			}
		},
		"CFG-3": func(t *testing.T) {
			out := record(t, cni.Add, recorded, recorders(t))
			equal(t, stdin(t, out.Calls[0])["strange"], any(map[string]any{"deep": []any{float64(1), "two"}}))
			equal(t, stdin(t, out.Calls[1])["ipam"], any(map[string]any{"type": "pool"}))
			if value, ok := stdin(t, out.Calls[2])["strange"]; !ok || value != nil {
				t.Errorf("got %v, %v for a key that is null, want it passed on", value, ok)
			}
		},
		"CFG-4": func(t *testing.T) {
			dir := recorders(t)
			out := record(t, cni.Check, strings.Replace(recorded, `"name"`, `"disableCheck": true, "name"`, 1), dir)
			equal(t, who(out), []string(nil))
			out = record(t, cni.GC, strings.Replace(recorded, `"name"`, `"disableGC": true, "name"`, 1), dir)
			equal(t, who(out), []string(nil))
		},
		"VER-1": func(t *testing.T) {
			out := record(t, cni.Add, recorded, recorders(t))
			equal(t, stdin(t, out.Calls[0])["cniVersion"], any("1.1.0"))
		},
		"ENV-1": func(t *testing.T) {
			dir := recorders(t)
			for _, id := range []string{"", "a/b", "-a"} {
				req := request(cni.Add, recorded, dir)
				req.ContainerID = id
				out, err := cni.Run(t.Context(), req, nil)
				check(t, err)
				if out.Failure == nil || len(out.Calls) > 0 {
					t.Errorf("container id %q: got %v after the calls %v, want a failure before any", id, out.Err(),
						who(out))
				}
			}
		},
		"EXE-4": func(t *testing.T) {
			own, err := os.Readlink("/proc/self/ns/net")
			check(t, err)
			for _, c := range record(t, cni.Add, recorded, recorders(t)).Calls {
				equal(t, strings.TrimSpace(c.Stderr), own)
			}
		},
		"DEL-6": func(t *testing.T) {
			dir := recorders(t)
			check(t, record(t, cni.Add, recorded, dir).Err())
			out := record(t, cni.Del, recorded, dir)
			equal(t, who(out), reversed)
			for _, c := range out.Calls {
				previous, _ := stdin(t, c)["prevResult"].(map[string]any)
				if list, _ := previous["interfaces"].([]any); len(list) != 3 {
					t.Errorf("%s: got the prevResult %v, want that of the last plugin", c.Plugin, previous)
				}
			}
			// Also after a failed ADD, which has no result.
			failing := recorders(t, "middle ADD")
			if record(t, cni.Add, recorded, failing).Failure == nil {
				t.Fatal("got an ADD that succeeds, want the middle plugin's failure")
			}
			out = record(t, cni.Del, recorded, failing)
			equal(t, who(out), reversed)
			if _, has := stdin(t, out.Calls[0])["prevResult"]; has {
				t.Error("got a prevResult after an ADD that failed, want none")
			}
		},
		"CHK-8": func(t *testing.T) {
			dir := recorders(t)
			add, checked := record(t, cni.Add, recorded, dir), record(t, cni.Check, recorded, dir)
			equal(t, who(checked), three("CHECK"))
			for i := range add.Calls {
				without := func(env []string) []string {
					return slices.DeleteFunc(slices.Clone(env), func(e string) bool {
						return strings.HasPrefix(e, "CNI_COMMAND=")
					})
				}
				equal(t, without(checked.Calls[i].Env), without(add.Calls[i].Env))
				was, is := stdin(t, add.Calls[i]), stdin(t, checked.Calls[i])
				delete(was, "prevResult")
				delete(is, "prevResult")
				equal(t, is, was)
			}
		},
		"LIF-3": func(t *testing.T) {
			check(t, record(t, cni.Add, recorded, recorders(t)).Err())
			text, err := os.ReadFile(cni.CachePath("net", "c", "eth0"))
			check(t, err)
			var cached struct {
				Result struct {
					Interfaces []any `json:"interfaces"`
				} `json:"result"`
			}
			check(t, json.Unmarshal(text, &cached))
			equal(t, len(cached.Result.Interfaces), 3)
		},
		"RQ-1": func(t *testing.T) {
			out := record(t, cni.Add, recorded, recorders(t))
			equal(t, who(out), three("ADD"))
			for i, want := range []any{
				map[string]any{"portMappings": []any{float64(80)}}, map[string]any{"mac": "02:00:00:00:00:01"}, nil,
			} {
				config := stdin(t, out.Calls[i])
				equal(t, config["runtimeConfig"], want)
				equal(t, config["name"], any("net"))
				previous, _ := config["prevResult"].(map[string]any)
				list, _ := previous["interfaces"].([]any)
				equal(t, len(list), i)
			}
		},
		"RQ-2": func(t *testing.T) {
			dir := recorders(t)
			for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del, cni.Status, cni.GC} {
				for _, c := range record(t, verb, recorded, dir).Calls {
					if c.Plugin == "middle" {
						equal(t, stdin(t, c)["ipam"], any(map[string]any{"type": "pool"}))
					}
				}
			}
		},
		"RQ-3": func(t *testing.T) {
			dir := recorders(t, "first GC", "middle ADD", "middle CHECK", "middle DEL")
			equal(t, who(record(t, cni.Add, recorded, dir)), []string{"first ADD", "middle ADD"})
			good := recorders(t)
			check(t, record(t, cni.Add, recorded, good).Err())
			equal(t, who(record(t, cni.Check, recorded, dir)), []string{"first CHECK", "middle CHECK"})
			equal(t, who(record(t, cni.Del, recorded, dir)), []string{"last DEL", "middle DEL"})
			check(t, record(t, cni.Del, recorded, good).Err())
			out := record(t, cni.GC, recorded, dir)
			equal(t, who(out), three("GC"))
			if out.Failure == nil {
				t.Error("got a GC that succeeds, want the first plugin's failure")
			}
		},
	}
}

// elsewhere returns the requirements on runtimes that other code than the driver meets.
func elsewhere() map[string]string {
	return map[string]string{
		"ADD-6": "TestShipped_scenarios_add_once of package scenario",
		"GC-5":  "TestOrder of package agent",
		"LIF-2": "TestOrder of package agent",
	}
}

// TestRuntime checks that the driver, including libcni, meets the requirements on runtimes. libcni does not remove the
// key capabilities (RQ-1) and passes keys of cni.dev/ on (RQ-2); plugins see both from every runtime based on it.
func TestRuntime(t *testing.T) {
	tests := runtimeTests()
	for _, r := range contract.Requirements() {
		if !r.Of(contract.Runtime) {
			continue
		}
		test, ok := tests[r.ID]
		if !ok {
			if elsewhere()[r.ID] == "" {
				t.Errorf("%s: no test shows it", r.ID)
			}
			continue
		}
		t.Run(r.ID, func(t *testing.T) {
			emptyCache(t)
			test(t)
		})
		delete(tests, r.ID)
	}
	for id := range tests {
		t.Errorf("%s: no such requirement of runtimes", id)
	}
}
