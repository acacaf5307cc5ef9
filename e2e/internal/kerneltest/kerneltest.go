// Package kerneltest lets a test that needs a feature of the kernel skip if the feature is missing, or fail if it must
// not be missing.
//
// It is for tests only. Other packages' tests use and thereby test it, on a kernel with the features and on one
// without: `go test ./e2e/snapshot`, and `make test-vm` with a stock Debian kernel.
package kerneltest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// WantEnv is a variable with the features that this machine's kernel must have, separated by commas ("dummy,ipvlan"). A
// test that needs one of them fails instead of being skipped.
const WantEnv = "CNITEST_WANT"

// Wanted reports whether WantEnv contains a name.
func Wanted(what string) bool { return slices.Contains(strings.Split(os.Getenv(WantEnv), ","), what) }

// Lacks ends a test because the kernel lacks something: it skips the test, or fails it if WantEnv contains the name.
func Lacks(tb testing.TB, what string) {
	tb.Helper()
	if Wanted(what) {
		tb.Fatalf("the kernel has no %s, and %s says that it must", what, WantEnv)
	}
	tb.Skipf("the kernel has no %s; make test-vm runs this on one that does", what)
}
