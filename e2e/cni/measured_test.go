package cni_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// script writes an executable shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestExecMeasured compares calls of each outcome with those of Exec.
func TestExecMeasured(t *testing.T) {
	for name, text := range map[string]string{
		"success": "cat; echo $CNI_COMMAND >&2", "failure": "echo '{}'; exit 7", "signal": "kill -TERM $$",
		"no output": ":",
	} {
		t.Run(name, func(t *testing.T) {
			path, env, in := script(t, text), cni.Environ([]string{"CNI_COMMAND=ADD"}), []byte(`{"name": "x"}`)
			want := cni.Exec(t.Context(), path, env, in)
			got, cpu := cni.ExecMeasured(t.Context(), path, env, in)
			if first := cpu(); got.Duration <= 0 || first <= 0 || cpu() != first {
				t.Errorf("got a duration of %s and %s of processor time", got.Duration, cpu())
			}
			want.Duration, got.Duration = 0, 0
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("otherwise than Exec (-Exec +ExecMeasured):\n%s", diff)
			}
		})
	}
	t.Run("timeout", func(t *testing.T) {
		ctx, cancel := machinetime.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		got, _ := cni.ExecMeasured(ctx, script(t, "sleep 60"), nil, nil)
		if got.ExitCode != -1 || got.Failure == "" || got.Duration > 30*time.Second {
			t.Errorf("got %+v, want it killed", got)
		}
	})
	t.Run("missing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none")
		got, cpu := cni.ExecMeasured(t.Context(), path, nil, nil)
		if want := cni.Exec(t.Context(), path, nil, nil); got.Failure != want.Failure || cpu() != 0 {
			t.Errorf("got %q and %s, want %q", got.Failure, cpu(), want.Failure)
		}
	})
}
