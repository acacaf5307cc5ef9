// Package share deals the cases of long tests to several runs: each run has every N-th case of a test, and N runs have
// all. make test has another share each day of the week.
//
// Run its tests: go test ./e2e/internal/share
package share

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"os"
	"testing"
)

// Default returns the share that the variable CNITEST_SHARE names, and without it all.
func Default() string { return cmp.Or(os.Getenv("CNITEST_SHARE"), "1/1") }

// Of returns the share K/N of the cases of a test, and says how many they are. Tests begin with different cases, so
// that tests with few cases are not all in the first shares.
func Of[T any](t testing.TB, share string, all []T) []T {
	t.Helper()
	var part, parts int
	if _, err := fmt.Sscanf(share, "%d/%d", &part, &parts); err != nil || part < 1 || part > parts {
		t.Fatalf("share %s: want K/N, the K-th of N parts", share)
	}
	var some []T
	for i := (part - 1 + begin(t.Name(), parts)) % parts; i < len(all); i += parts {
		some = append(some, all[i])
	}
	if parts > 1 {
		t.Logf("%d of %d: share %s, CNITEST_SHARE=1/1 runs all", len(some), len(all), share)
	}
	return some
}

// begin returns a number below parts, which depends on the name of a test.
func begin(name string, parts int) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name)) // never fails
	return int(hash.Sum32() % uint32(parts))
}
