package witness

import "testing"

// FuzzTrace checks that whatever the kernel says about a packet, whose header a pod wrote, is noted.
func FuzzTrace(f *testing.F) {
	f.Add(uint8(2), []byte("\x08\x00\x01\x00raw\x00\x08\x00\x05\x00\x00\x00\x00\x01"))
	f.Add(uint8(10), []byte("\x08\x00\x04\x00\x00\x00\x00\x01\x08\x00\x09\x00\x45\x00\x00\x14"))
	f.Fuzz(func(_ *testing.T, family uint8, data []byte) {
		trace := &Trace{packets: map[uint32]traced{}}
		trace.note(family, data)
		addressesOf(data)
	})
}
