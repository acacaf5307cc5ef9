package kind

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAPI_leavesNothing ends the input of the proxy, as the end of this program does, even by SIGKILL. The directory
// and the processes are then gone.
func TestAPI_leavesNothing(t *testing.T) {
	a := new(fakeCluster).connect(t, "")
	if _, err := os.Stat(filepath.Join(a.dir, "socket")); err != nil {
		t.Fatal(err)
	}
	if err := a.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(a.dir)
		left := groupOf(t, a.cmd.Process.Pid)
		if errors.Is(err, fs.ErrNotExist) && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got the directory (%v) and the processes %q, want neither", err, left)
		}
	}
}

// groupOf returns the processes of a group that have not ended.
func groupOf(t *testing.T, group int) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// After the name, which may contain anything: state, parent, group (proc_pid_stat(5)).
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if fields[0] != "Z" && fields[2] == strconv.Itoa(group) {
			found = append(found, string(text))
		}
	}
	return found
}
