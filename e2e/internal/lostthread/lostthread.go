// Package lostthread runs functions on threads that end with them.
package lostthread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Do calls f on a thread that ends afterwards, so that f may leave the thread in other namespaces. The first thread of
// a process never ends, and represents the process in /proc: it is blocked while another one runs f. It may be called
// concurrently.
func Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- Do(f)
			return
		}
		// It is not unlocked, so the thread ends with the goroutine.
		done <- f()
	}()
	return <-done
}
