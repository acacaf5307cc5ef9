package probe

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// request is the message of a client: one per UDP packet, one per line of a TCP flow, and the first line of a TCP
// transfer.
type request struct {
	Nonce uint64 `json:"nonce"`
	Seq   int    `json:"seq,omitempty"`
	// Transfer is set for TCP if bytes follow in both directions, the pattern of seed Nonce.
	Transfer bool `json:"transfer,omitempty"`
	Bytes    int  `json:"bytes,omitempty"`
}

// reply is the answer of a server, with everything that only the other end can know.
type reply struct {
	Nonce uint64 `json:"nonce"`
	Seq   int    `json:"seq,omitempty"`
	Name  string `json:"name"`
	Peer  string `json:"peer"`
	Local string `json:"local"`
}

// confirmation ends a TCP transfer: it contains what the server says about the bytes that it received.
type confirmation struct {
	Error string `json:"error,omitempty"`
}

// maxLine limits a line over TCP, so that other clients of the port cannot use up memory.
const maxLine = 4 << 10

// encode writes one message and a newline, padded with spaces to size: JSON ends with the object, and a decoder skips
// white space.
func encode(message any, size int) ([]byte, error) {
	b, err := json.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	if fill := size - len(b) - 1; fill > 0 {
		b = append(b, bytes.Repeat([]byte{' '}, fill)...)
	}
	return append(b, '\n'), nil
}

func writeMessage(w io.Writer, message any) error {
	b, err := encode(message, 0)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// readMessage reads one line into message. The buffer of r must have maxLine bytes or more.
func readMessage(r *bufio.Reader, message any) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, message); err != nil {
		return fmt.Errorf("not a message of this suite: %.40q", line)
	}
	return nil
}
