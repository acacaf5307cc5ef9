// Package kerneltest lets a test that needs a feature of the kernel skip if the feature is missing, and fail if it must
// not be missing.
//
// It is for tests alone, and makes nothing. Its users test it, on a kernel with the features and on one without: `go
// test ./e2e/snapshot`, and `make test-vm` with a stock kernel of Debian.
package kerneltest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// WantEnv names what this machine's kernel must have, separated by commas ("dummy,ipvlan"), so that a skip cannot be
// taken for a pass.
const WantEnv = "CNITEST_WANT"

// Lacks ends a test that needs something which the kernel lacks: it skips the test, or fails it if WantEnv has that
// name.
func Lacks(tb testing.TB, what string) {
	tb.Helper()
	if slices.Contains(strings.Split(os.Getenv(WantEnv), ","), what) {
		tb.Fatalf("the kernel has no %s, and %s says that it must", what, WantEnv)
	}
	tb.Skipf("the kernel has no %s; make test-vm runs this on one that does", what)
}
