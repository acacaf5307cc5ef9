// Package kerneltest lets a test that needs something of the kernel skip where it is missing, and fail where it must be
// there.
//
// It is for tests alone, and makes nothing. It is tested by its users, on a kernel with and on one without: `go test
// ./e2e/snapshot`, and `make test-vm` with a stock kernel of Debian's.
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

// Lacks ends a test for which the kernel lacks something: it skips the test, or fails it where WantEnv has that name.
func Lacks(tb testing.TB, what string) {
	tb.Helper()
	if slices.Contains(strings.Split(os.Getenv(WantEnv), ","), what) {
		tb.Fatalf("the kernel has no %s, and %s says that it must", what, WantEnv)
	}
	tb.Skipf("the kernel has no %s; make test-vm runs this on one that does", what)
}
