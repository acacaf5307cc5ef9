package refusal

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// TestSameEnd tells a call that failed as before from one that failed in another way; names that change from run to run
// are no difference.
func TestSameEnd(t *testing.T) {
	answer := func(code int, msg string) cni.Call {
		return cni.Call{ExitCode: code, Stdout: `{"code": 999, "msg": "` + msg + `"}`}
	}
	first := answer(1, "failed to make veth pair veth1b2c: invalid argument")
	for _, tt := range []struct {
		name   string
		second cni.Call
		want   bool
	}{
		{"another link", answer(1, "failed to make veth pair veth9f00: invalid argument"), true},
		{"another error", answer(1, "failed to make veth pair veth9f00: file exists"), false},
		{"another exit status", answer(2, "failed to make veth pair veth9f00: invalid argument"), false},
		{"text in place of an answer", cni.Call{ExitCode: 1, Stdout: "panic"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := sameEnd(first, tt.second); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestExplanation_texts checks what a reader is told: nothing where it is not known that a refusal decided.
func TestExplanation_texts(t *testing.T) {
	refused := fault.Refusal{Program: "ptp", What: "stat /bin/iptables", Errno: unix.ENOENT}
	e := Explanation{EndedBy: []fault.Refusal{refused}, node: "node/a", plugin: "ptp"}
	if got := e.Reason(); got != "" || e.Unfit() != nil {
		t.Errorf("a refusal that the answer does not name: got %q and %v, want nothing", got, e.Unfit())
	}
	e.Named = true
	if got, want := e.Reason(), "; the kernel refused stat /bin/iptables: ENOENT"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for kind, want := range map[string]string{
		fault.ProgramFeature: "node/a: the program iptables is not installed, and ptp calls it; install it ",
		fault.LinkFeature:    "node/a: this kernel lacks links of the kind iptables, for which ptp asks: stat ",
	} {
		e.Lacks = &fault.Feature{Kind: kind, Name: "iptables"}
		if got := e.Unfit(); got == nil || !strings.HasPrefix(got.Error(), want) {
			t.Errorf("%s: got %v, want %s…", kind, got, want)
		}
	}
}
