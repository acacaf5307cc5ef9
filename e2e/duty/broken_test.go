package duty_test

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/duty"
	"github.com/cnitest/cnitest/e2e/expectation"
	"github.com/cnitest/cnitest/e2e/internal/share"
	"github.com/cnitest/cnitest/e2e/report"
)

// one selects a fault.
var one = flag.String("fault", "", "fault to run alone")

// fault is one of ../broken/runtime: the duty that it breaks, and words of the reason.
type fault struct{ fault, duty, reason string }

var faults = []fault{
	{"any-name", "RUN-1", `ADD in the network "_net", whose name is not allowed, calls first, middle, last`},
	{"checks-disabled", "RUN-2", "CHECK with disableCheck calls first, middle, last, want none"},
	{"refuses-disabled", "RUN-2", "CHECK with disableCheck fails, want a success: CHECK is disabled"},
	{"collects-disabled", "RUN-3", "GC with disableGC calls first, middle, last, want none"},
	{"folder-first", "RUN-4", "ADD calls last, first, middle, want first and middle, which are in the file, and then " +
		"last"},
	{"folder-always", "RUN-5", "ADD with loadOnlyInlinedPlugins calls first, middle, last, want first and middle"},
	{"inlined-without-plugins", "RUN-5", "and no plugins calls no plugin and fails: false, want a failure"},
	{"every-folder", "RUN-6", "the plugin other is in the folder of another network"},
	{"skips-invalid", "RUN-7", "ADD in a network whose second plugin object has no type calls first, last"},
	{"skips-one", "RUN-7", "ADD calls first, last, want first, middle, last"},
	{"drops-nulls", "RUN-8", `ADD of first gets no key "null", which its object has`},
	{"drops-unknown", "RUN-8", `ADD of first gets no key "isGateway", which its object has`},
	{"floats", "RUN-9", `ADD of first gets "`},
	{"first-version", "RUN-10", `is used with "0.3.1", want 1.1.0, which is the highest that the runtime knows`},
	{"last-version", "RUN-10", `is used with "1.0.0", want 1.1.0`},
	{"in-sandbox", "RUN-11", "ADD of first runs in another network namespace than the node's"},
	{"same-id", "RUN-12", "ADD of first gets CNI_CONTAINERID=c for the pod"},
	{"bad-id", "RUN-12", "ADD of first gets CNI_CONTAINERID=-c-"},
	{"no-interface", "RUN-13", "DEL of last gets no CNI_IFNAME"},
	{"other-interface", "RUN-13", "ADD of first gets CNI_IFNAME=eth0, want net7"},
	{"other-sandbox", "RUN-13", "DEL of last gets CNI_NETNS=/run/netns/other, want "},
	{"gc-without-path", "RUN-14", "GC of first gets no CNI_PATH"},
	{"gc-of-container", "RUN-14", "GC of first gets CNI_CONTAINERID=c, and it concerns no attachment"},
	{"status-of-interface", "RUN-14", "STATUS of first gets CNI_IFNAME=eth0, and it concerns no attachment"},
	{"no-path", "RUN-15", "ADD of first gets CNI_PATH=, want "},
	{"no-args", "RUN-16", "DEL of last gets CNI_ARGS=, want IgnoreUnknown=1;K8S_POD_NAME=web-0"},
	{"no-input", "RUN-17", "GC of a network that is in order fails: "},
	{"adds-twice", "RUN-18", "a second ADD of a pod that is attached calls first, middle, last"},
	{"del-without-result", "RUN-19", "DEL of last gets no prevResult"},
	{"first-result", "RUN-19", "DEL of last gets the prevResult {"},
	{"dels-again", "RUN-19", "DEL is called again, and then DEL of last gets no prevResult"},
	{"forward-del", "RUN-20", "DEL calls first, middle, last, want last, middle, first"},
	{"gc-for-del", "RUN-21", "DEL of a pod calls GC of first, middle, last, and DEL of no plugin"},
	{"checks-anything", "RUN-22", "CHECK of a pod that was never attached calls first, middle, last"},
	{"first-result", "RUN-23", "CHECK of first gets the prevResult {"},
	{"stale-result", "RUN-23", "CHECK of first gets the prevResult {"},
	{"checks-otherwise", "RUN-24", "CHECK of first gets other parameters than ADD"},
	{"gc-without-list", "RUN-25", `GC of first gets no cni.dev/valid-attachments, want [{"containerID":"c-run-25`},
	{"gc-empty-list", "RUN-25", "GC of first gets cni.dev/valid-attachments: [] without {"},
	{"gc-long-list", "RUN-25", `with {"containerID":"gone","ifname":"eth0"}, which is not attached`},
	{"parallel", "RUN-26", "is called while ADD of first of the same container is at work"},
	{"parallel-gc", "RUN-27", "GC of first is called while ADD of first in the same network is at work"},
	{"first-file", "RUN-28", "after the file of another network came before its own, was called of other; want last, middle, first"},
	{"skips-failed", "RUN-28", "and DEL of the pod, DEL was called of no plugin; want last, middle, first"},
	{"no-sandbox", "RUN-29", "ADD of first gets CNI_NETNS=/run/netns/none, where there is no network namespace"},
	{"own-sandbox", "RUN-29", "ADD of first gets CNI_NETNS=/proc/self/ns/net, which is the runtime's own"},
	{"ignores-missing", "RUN-30", "CHECK succeeds although the program of the second plugin is missing"},
	{"forgets", "RUN-31", "DEL of last gets no prevResult"},
	{"own-name", "RUN-32", `ADD of first gets "name": "other", want "RUN-32`},
	{"all-objects", "RUN-32", `ADD of first gets the key "only-middle" of middle: true`},
	{"status-without-version", "RUN-32", `STATUS of first gets "cniVersion": null, want "1.1.0"`},
	{"all-capabilities", "RUN-33", "which it does not declare"},
	{"false-capabilities", "RUN-33", "ADD of first gets the capability bandwidth, which it does not declare"},
	{"no-capabilities", "RUN-33", "ADD of first gets portMappings: null in runtimeConfig, want [{"},
	{"previous-of-first", "RUN-34", "ADD of first gets the prevResult {"},
	{"skips-a-result", "RUN-34", "ADD of last gets the prevResult {"},
	{"keeps-capabilities", "RUN-35", `ADD of first gets "capabilities": {`},
	{"goes-on", "RUN-36", "ADD calls first, middle, last, want first, middle: the second fails"},
	{"fails-silently", "RUN-36", "ADD succeeds although its second plugin fails"},
	{"not-found-is-gone", "RUN-36", "DEL succeeds although its second plugin fails: the one in the middle says that"},
	{"hides-errors", "RUN-36", `ADD reports "something went wrong", want the error of its second plugin`},
	{"gc-halts", "RUN-37", "GC whose first plugin fails calls first, want all"},
	{"gc-first-error", "RUN-37", "want also the error of last: the last one says no"},
	{"old-verbs", "RUN-38", "CHECK of first is called in a network of 0.3.1, which has no CHECK"},
	{"trusts-its-files", "RUN-39", "is empty (of "},
	{"old-result", "RUN-38", "DEL of last gets a prevResult in a network of 0.3.1, which has none for DEL"},
}

// TestBroken wants each duty to fail for a runtime that breaks it, for its reason.
func TestBroken(t *testing.T) {
	t.Parallel()
	node := lab(t, "../broken/runtime")
	some := share.Of(t, share.Default(), faults)
	if *one != "" {
		some = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return f.fault != *one })
	}
	for i, tt := range some {
		t.Run(tt.fault+" "+tt.duty, func(t *testing.T) {
			results, err := duty.Run(t.Context(), duty.Options{
				Node: node, Label: "x" + strings.Repeat("i", i), Match: func(id string) bool { return id == tt.duty },
				Runtime: command(t.Context(), t, node, duty.CommandOptions{
					Name: "runtime", Env: []string{"CNITEST_FAULT=" + tt.fault}, Orders: true,
				}),
			})
			check(t, err)
			if got := results[0]; got.Result != report.Fail || !strings.Contains(got.Reason, tt.reason) {
				t.Errorf("got %s, %q, want a failure with %q", got.Result, got.Reason, tt.reason)
			}
		})
	}
}

// TestBroken_are_complete wants a fault for each duty.
func TestBroken_are_complete(t *testing.T) {
	for _, r := range contract.Requirements() {
		if !r.Of(contract.Runtime) {
			continue
		}
		if !slices.ContainsFunc(faults, func(f fault) bool { return f.duty == r.ID }) {
			t.Errorf("%s: no fault of a runtime breaks it", r.ID)
		}
	}
}

// TestWhole wants a runtime without a fault to meet every duty.
func TestWhole(t *testing.T) {
	t.Parallel()
	node := lab(t, "../broken/runtime")
	results, err := duty.Run(t.Context(), duty.Options{
		Node: node, Runtime: command(t.Context(), t, node, duty.CommandOptions{Name: "runtime", Orders: true}),
	})
	check(t, err)
	for _, got := range results {
		if got.Result != report.Pass {
			t.Errorf("%s: got %s, %s", got.ID, got.Result, got.Reason)
		}
	}
	asked := 0
	for _, r := range contract.Requirements() {
		if r.Of(contract.Runtime) {
			asked++
		}
	}
	if len(results) != asked {
		t.Errorf("got %d results, want %d, one for each duty", len(results), asked)
	}
}

// TestUpstream wants of cnitool and the suite's own driver, which both stand on libcni, what their expectation files
// say.
func TestUpstream(t *testing.T) {
	for name, packages := range map[string][]string{
		"cnitool": {"github.com/containernetworking/cni/cnitool"}, duty.DriverName: nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := lab(t, packages...)
			var runtime duty.Runtime = duty.NewDriver(node)
			if name != duty.DriverName {
				runtime = command(t.Context(), t, node, duty.CommandOptions{Name: name})
			}
			results, err := duty.Run(t.Context(), duty.Options{Node: node, Runtime: runtime})
			check(t, err)
			expected, err := expectation.Load(name + ".expected.yaml")
			check(t, err)
			about := report.Implementation{Plugins: []report.Plugin{{Type: name, UnderTest: true}}}
			for _, difference := range expected.Compare(&report.Report{Results: results, Implementation: about}) {
				t.Error(difference)
			}
			for _, got := range results {
				if got.Result == report.Skipped {
					t.Errorf("%s: the lab failed: %s", got.ID, got.Reason)
				}
			}
		})
	}
}
