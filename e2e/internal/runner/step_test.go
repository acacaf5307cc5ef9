package runner

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

func TestRefused(t *testing.T) {
	full := fmt.Errorf("pod/a: ADD: %w", &cni.Error{Plugin: "mynet", Code: 11, Msg: "no address is free"})
	broken := errors.New("the agent has ended")
	for name, tt := range map[string]struct {
		code int
		err  error
		want string
	}{
		"success":                    {0, nil, ""},
		"no success":                 {0, full, full.Error()},
		"the error that is wanted":   {11, full, ""},
		"another error":              {50, full, "got the code 11, want 50: " + full.Error()},
		"success where an error was": {11, nil, "it succeeded, want an error with code 11"},
		"no error of a plugin":       {11, broken, broken.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := refused(tt.code, tt.err); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEventually(t *testing.T) {
	for _, tt := range []struct {
		within      time.Duration
		fails, want int // how often it fails, and how often it is tried
	}{{0, 9, 1}, {0, 0, 1}, {time.Minute, 2, 3}} {
		tried := 0
		err := eventually(t.Context(), tt.within, func() error {
			if tried++; tried <= tt.fails {
				return errors.New("not yet")
			}
			return nil
		})
		if tried != tt.want || (err == nil) != (tt.want > tt.fails) {
			t.Errorf("within %s: got %d tries and %v, want %d", tt.within, tried, err, tt.want)
		}
	}
}

// TestVerbs finds a verb of steps for which there is no function.
func TestVerbs(t *testing.T) {
	run := verbs()
	for _, verb := range scenario.Verbs() {
		if run[verb] == nil {
			t.Errorf("%s: steps have this verb and nothing runs it; add it to verbs in step.go", verb)
		}
		delete(run, verb)
	}
	for verb := range run {
		t.Errorf("%s: no step has this verb; remove it from verbs in step.go", verb)
	}
}

// TestProtocols finds a protocol that scenarios and probes do not share.
func TestProtocols(t *testing.T) {
	var known []string
	for _, p := range probe.Protocols() {
		known = append(known, string(p))
	}
	if diff := cmp.Diff(scenario.Protocols(), known); diff != "" {
		t.Errorf("protocols of scenarios and of probes:\n%s", diff)
	}
}
