package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
)

const blockSize = 64 << 10

// pattern is a stream of bytes that both ends can make from a seed: one random block that repeats, each time with its
// number in front, so that lost, repeated and exchanged blocks are noticed without comparing single bytes in Go.
type pattern struct {
	block []byte
	next  uint64
}

// newPattern makes the stream of a seed. The two directions of a connection have different streams, so that an echo is
// not mistaken for an answer.
func newPattern(seed uint64, way byte) *pattern {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	key[8] = way
	p := &pattern{block: make([]byte, blockSize)}
	// ChaCha8.Read never returns an error, as its documentation says.
	_, _ = rand.NewChaCha8(key).Read(p.block)
	return p
}

// take returns the next bytes of the stream, at most one block and at most left. They are valid until the next call.
func (p *pattern) take(left int) []byte {
	binary.BigEndian.PutUint64(p.block, p.next)
	p.next++
	return p.block[:min(left, blockSize)]
}

// write writes the first n bytes of the stream.
func (p *pattern) write(w io.Writer, n int) error {
	for n > 0 {
		written, err := w.Write(p.take(n))
		if err != nil {
			return err
		}
		n -= written
	}
	return nil
}

// verify reads n bytes and compares them with the stream. It returns how many arrived. Of the last block it counts only
// the bytes that arrived.
func (p *pattern) verify(r io.Reader, n int) (int, error) {
	got := 0
	buffer := make([]byte, min(n, blockSize))
	for got < n {
		want := p.take(n - got)
		read, err := io.ReadFull(r, buffer[:len(want)])
		if err == nil && !bytes.Equal(buffer[:read], want) {
			return got, fmt.Errorf("bytes %d to %d differ from those that were sent", got, got+read)
		}
		got += read
		if err != nil {
			return got, err
		}
	}
	return got, nil
}
