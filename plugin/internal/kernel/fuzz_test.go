package kernel

import (
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzAttribute checks that every answer of the kernel about a route gives a table.
func FuzzAttribute(f *testing.F) {
	f.Add(append(make([]byte, unix.SizeofRtMsg), "\x08\x00\x0f\x00\x64\x00\x00\x00"...))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if len(data) >= unix.SizeofRtMsg { // the kernel's answers have it
			tableOf(data)
		}
	})
}
