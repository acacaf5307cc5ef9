package cni_test

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/cni"
)

func TestVerb_In(t *testing.T) {
	for _, tt := range []struct {
		verb    cni.Verb
		version string
		want    bool
	}{
		{cni.Add, "0.1.0", true},
		{cni.Check, "0.3.1", false},
		{cni.Check, "0.4.0", true},
		{cni.GC, "1.0.0", false},
		{cni.Status, "1.1.0", true},
		{cni.Status, "newest", true},
	} {
		if got := tt.verb.In(tt.version); got != tt.want {
			t.Errorf("%s in %s: got %v, want %v", tt.verb, tt.version, got, tt.want)
		}
	}
}
