package busy

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// program returns a plugin that is a shell script.
func program(t *testing.T, script string) string {
	t.Helper()
	file := t.TempDir() + "/plugin"
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func start(t *testing.T, loops int) {
	t.Helper()
	if _, err := exec.LookPath("dd"); err != nil {
		t.Skip(err)
	}
	l, err := Start(loops, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
}

// A plugin that sleeps longer than it may is killed, however busy the machine is.
func TestExec_sleeps(t *testing.T) {
	start(t, 2*runtime.NumCPU())
	const limit = 3 * time.Second
	ctx, cancel := machinetime.WithTimeout(context.Background(), limit)
	defer cancel()
	// in the same ratio as 40 seconds to 30
	call := cni.Exec(ctx, program(t, "sleep 4"), []string{"PATH=" + os.Getenv("PATH")}, nil)
	if call.Failure == "" {
		t.Errorf("a plugin that sleeps 4s was not killed after %s: it took %s", limit, call.Duration)
	}
}

// A plugin that needs a processor gets additional time for the time in which others had it.
func TestExec_starves(t *testing.T) {
	count := 100_000
	script := func() string { return "i=0; while [ $i -lt " + strconv.Itoa(count) + " ]; do i=$((i+1)); done" }
	alone := func() time.Duration {
		return cni.Exec(context.Background(), program(t, script()), []string{"PATH=" + os.Getenv("PATH")}, nil).Duration
	}
	for alone() < 1200*time.Millisecond {
		count *= 2
	}
	limit := alone() * 3 / 2
	start(t, 6*runtime.NumCPU())
	ctx, cancel := machinetime.WithTimeout(context.Background(), limit)
	defer cancel()
	call := cni.Exec(ctx, program(t, script()), []string{"PATH=" + os.Getenv("PATH")}, nil)
	if call.Failure != "" {
		t.Errorf("killed after %s of which %s were not its own, want that it runs to its end: %s", call.Duration,
			machinetime.Extra(ctx), call.Failure)
	}
	if call.Duration < limit {
		t.Skipf("it took %s of %s: nothing was in its way", call.Duration, limit)
	}
}
