package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The two directions of a connection, each with its own pattern.
const (
	fromClient byte = iota
	fromServer
)

// connections makes one attempt: Count connections, one after the other.
func (r *run) connections(ctx context.Context, wait time.Duration) error {
	for range r.spec.Count {
		r.result.Sent++
		if err := r.connection(ctx, wait); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) connection(ctx context.Context, wait time.Duration) error {
	conn, err := r.connect(ctx, r.from, r.to, wait)
	if err != nil {
		r.result.Local = r.source()
		return err
	}
	s := newStream(conn, wait)
	defer s.close()
	// The end of the context must end reads and writes as well.
	defer context.AfterFunc(ctx, s.close)()

	sa, err := conn.Getsockname()
	if err != nil {
		return err
	}
	r.result.Local = text(endpointOf(sa).addr)
	return r.transfer(s)
}

// transfer sends and receives at the same time, as the far end does: neither waits for a full buffer of the other.
func (r *run) transfer(s *stream) error {
	q := request{Nonce: rand.Uint64(), Transfer: true, Bytes: r.spec.Bytes}
	if err := writeMessage(s, q); err != nil {
		return s.reason("request", err)
	}
	in := bufio.NewReaderSize(s, maxLine)
	var answer reply
	if err := readMessage(in, &answer); err != nil {
		return s.reason("no answer to the request", err)
	}
	if answer.Nonce != q.Nonce {
		return errors.New("the answer is to another request")
	}

	sent := make(chan error, 1)
	go func() {
		err := newPattern(q.Nonce, fromClient).write(s, q.Bytes)
		if err == nil {
			err = s.conn.CloseWrite()
		}
		sent <- err
	}()
	if err := r.receive(s, in, q); err != nil {
		s.close()
		<-sent //nolint:errcheck // its error follows from the close
		return err
	}
	if err := <-sent; err != nil {
		return s.reason("send", err)
	}
	r.answered(answer, r.result.Local)
	return nil
}

// receive reads the bytes of the far end, its confirmation of ours, and the end of the stream.
func (r *run) receive(s *stream, in *bufio.Reader, q request) error {
	got, err := newPattern(q.Nonce, fromServer).verify(in, q.Bytes)
	if err != nil {
		return s.reason(fmt.Sprintf("received %d of %d bytes", got, q.Bytes), err)
	}
	var c confirmation
	if err := readMessage(in, &c); err != nil {
		return s.reason(fmt.Sprintf("received %d bytes, but those sent were not confirmed", got), err)
	}
	if c.Error != "" {
		return fmt.Errorf("the far end: %s", c.Error)
	}
	if err := wantEnd(in); err != nil {
		return s.reason("complete, but not closed", err)
	}
	return nil
}
