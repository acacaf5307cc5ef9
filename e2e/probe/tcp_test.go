package probe

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

func TestRun_largeTransfer(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	listen(t, b, ListenSpec{Protocol: TCP, Port: 8080})
	const size = 64 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := ask(t, a, Spec{Protocol: TCP, To: "10.9.0.2", Port: 8080, Bytes: size, Within: time.Minute, Attempts: 1})
	runtime.ReadMemStats(&after)
	if !got.OK {
		t.Fatalf("got %+v, want a complete transfer", got)
	}
	t.Logf("%d MiB each way in %s", size>>20, got.Duration)
	// Both ends are in this process: it needs four blocks for the streams, and as many for comparison.
	if used := after.TotalAlloc - before.TotalAlloc; used > size/8 {
		t.Errorf("got %d bytes allocated for %d bytes each way", used, size)
	}
}

// TestRun_brokenServer checks that each way in which a connection can fail after it was made is reported.
func TestRun_brokenServer(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	const size = 1 << 20
	for i, tt := range []struct {
		name string
		// serve is called with the request after the answer to it was sent.
		serve func(c *net.TCPConn, r io.Reader, q request)
		want  string
	}{
		{
			"sends a part and stops",
			func(c *net.TCPConn, r io.Reader, q request) {
				_ = newPattern(q.Nonce, fromServer).write(c, 1000)
				_, _ = io.Copy(io.Discard, r)
				<-t.Context().Done()
			},
			"received 1000 of 1048576 bytes, then nothing for 1s",
		},
		{
			"sends a part and closes",
			func(c *net.TCPConn, r io.Reader, q request) {
				_ = newPattern(q.Nonce, fromServer).write(c, 1000)
				_ = c.CloseWrite()
				_, _ = io.Copy(io.Discard, r)
			},
			"received 1000 of 1048576 bytes, then the far end closed",
		},
		{
			"echoes",
			func(c *net.TCPConn, r io.Reader, _ request) { _, _ = io.Copy(c, r) },
			"received 0 of 1048576 bytes: bytes 0 to 65536 differ from those that were sent",
		},
		{
			"does not read",
			func(c *net.TCPConn, _ io.Reader, q request) {
				_ = newPattern(q.Nonce, fromServer).write(c, size)
				<-t.Context().Done()
			},
			"received 1048576 bytes, but those sent were not confirmed, then nothing for 1s",
		},
		{
			"received something else",
			func(c *net.TCPConn, r io.Reader, q request) {
				_ = newPattern(q.Nonce, fromServer).write(c, size)
				_, err := newPattern(q.Nonce+1, fromClient).verify(r, size)
				_ = writeMessage(c, confirmation{Error: errText(err)})
				_, _ = io.Copy(io.Discard, r)
			},
			"the far end: bytes 0 to 65536 differ from those that were sent",
		},
		{
			"does not close",
			func(c *net.TCPConn, r io.Reader, q request) {
				_ = newPattern(q.Nonce, fromServer).write(c, size)
				_, _ = io.Copy(io.Discard, r)
				_ = writeMessage(c, confirmation{})
				<-t.Context().Done()
			},
			"complete, but not closed, then nothing for 1s",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port := 8000 + i
			l := silentServer(t, b, port)
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer func() { _ = c.Close() }()
				r := bufio.NewReaderSize(c, maxLine)
				var q request
				if readMessage(r, &q) == nil && writeMessage(c, reply{Nonce: q.Nonce}) == nil {
					tt.serve(c.(*net.TCPConn), r, q)
				}
			}()
			spec := Spec{
				Protocol: TCP, To: "10.9.0.2", Port: uint16(port), Bytes: size, Attempts: 1, Within: time.Second,
			}
			if got := ask(t, a, spec); got.OK || got.Error != tt.want {
				t.Errorf("got %+v, want error %q", got, tt.want)
			}
		})
	}
}

func TestPattern(t *testing.T) {
	const size = 3*blockSize + 7
	var good bytes.Buffer
	if err := newPattern(1, fromClient).write(&good, size); err != nil {
		t.Fatal(err)
	}
	b := good.Bytes()
	block := func(i int) []byte { return b[i*blockSize : (i+1)*blockSize] }
	tail := b[3*blockSize:]
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	flipped := bytes.Clone(b)
	flipped[2*blockSize-1] ^= 1
	for _, tt := range []struct {
		name    string
		in      []byte
		want    int
		wantErr string
	}{
		{"as it was sent", b, size, ""},
		{"one bit", flipped, blockSize, "bytes 65536 to 131072 differ from those that were sent"},
		{"blocks exchanged", join(block(1), block(0), block(2), tail), 0, "bytes 0 to 65536 differ from those that were sent"},
		{"a block twice", join(block(0), block(0), block(1), tail), blockSize, "bytes 65536 to 131072 differ from those that were sent"},
		{"a block lost", join(block(0), block(2), tail), blockSize, "bytes 65536 to 131072 differ from those that were sent"},
		{"the end lost", b[:size-1], size - 1, "unexpected EOF"},
		{"nothing", nil, 0, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := newPattern(1, fromClient).verify(bytes.NewReader(tt.in), size)
			if got != tt.want || errText(err) != tt.wantErr {
				t.Errorf("got %d bytes, error %q, want %d, %q", got, errText(err), tt.want, tt.wantErr)
			}
		})
	}
}
