package contract

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

func TestParseToken(t *testing.T) {
	for _, text := range []string{
		"route:RACE-ADD-DEL:pods-cold:A14", "route:RACE-ADD-DEL:pods-warm:B3.A1",
		"route:RACE-DEL-CHECK:interfaces-cold:A", "host-local:POWER-ADD:cache:7:empty@/var/lib/x",
		"route:READ-GC:14:interrupted-30", "route:SEQ-VERBS:ADD1.GC.DEL1-without-prevResult", "route:KILL-ADD:3:before",
	} {
		token, err := ParseToken(text)
		if err != nil || token.String() != text {
			t.Errorf("%s: got %v, error %v", text, token, err)
		}
	}
	for text, want := range map[string]string{
		"route":                              "it does not name a plugin, a requirement and a case",
		":POWER-ADD:cache:1":                 "it does not name a plugin, a requirement and a case",
		"p:POWER-ADD":                        "it does not name a plugin, a requirement and a case",
		"p:POWER-NONE:cache:1":               "no requirement is POWER-NONE",
		"route:ADD-DEL:pods-cold:A1":         "no requirement is ADD-DEL",
		"route:DEL-2:1":                      "DEL-2 has a single case",
		"route:RACE-ADD-DEL:pods-hot:A1":     "no node is pods-hot",
		"route:RACE-ADD-DEL:pods-cold:C1":    `"C1" is no stop`,
		"route:RACE-ADD-DEL:pods-cold":       `"" is no stop`,
		"route:RACE-ADD-DEL:pods-cold:A0":    "pods-cold:A0: its stops are not written as a report writes them",
		"route:RACE-ADD-DEL:pods-cold:A1.B":  `"B" is no stop`,
		"route:RACE-ADD-DEL:pods-cold:A1x.B": `"B" is no stop`,
	} {
		_, err := ParseToken(text)
		want = fmt.Sprintf("token %q: %s; want one that a report shows, like route:RACE-ADD-DEL:pods-cold:A14", text,
			want)
		if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// No two cases of a requirement have the same name in a token.
func TestToken_names_one_case(t *testing.T) {
	var steps []step
	for _, how := range []variant{plain, olderVersion, withoutResult, resultOfChain, changedSetting} {
		steps = append(steps, step{cni.Del, 0, how}, step{cni.Add, 0, plain}, step{cni.Add, 1, plain},
			step{verb: reboot})
	}
	var dump fault.Point
	dump.Number = 7
	var faults []string
	for _, i := range []fault.Injection{
		{Point: dump, When: fault.Fail, Errno: syscall.ENOMEM},
		{Point: dump, When: fault.Deaf, Errno: syscall.ENOMEM},
		{Point: dump, When: fault.Interrupted, Times: 1},
		{Point: dump, When: fault.Interrupted, Times: 30},
		{Point: dump, When: fault.Interrupted, Times: -1},
		{Point: dump, When: fault.Before},
	} {
		faults = append(faults, i.Code())
	}
	want := []string{"7:ENOMEM", "7:deaf-ENOMEM", "7:interrupted", "7:interrupted-30", "7:interrupted-always", "7:before"}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	seen := map[string]sequence{}
	for _, a := range steps {
		for _, b := range steps {
			q := sequence{a, b}
			if other, ok := seen[q.code()]; ok && other.String() != q.String() {
				t.Errorf("%s: both %s and %s", q.code(), q, other)
			}
			seen[q.code()] = q
		}
	}
	if _, ok := seen["ADD2.DEL1-at-an-older-cniVersion"]; !ok {
		t.Errorf("got %v, want ADD2.DEL1-at-an-older-cniVersion among them", seen)
	}
}
