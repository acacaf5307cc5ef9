package probe

import (
	"encoding/json"
	"math/rand/v2"
)

// datagrams are the requests of one UDP socket.
type datagrams struct {
	nonce uint64
	size  int
}

// newDatagrams makes requests with size bytes of payload, or as small as possible.
func newDatagrams(size int) *datagrams {
	return &datagrams{nonce: rand.Uint64(), size: size}
}

func (d *datagrams) request(seq int) ([]byte, error) {
	return encode(request{Nonce: d.nonce, Seq: seq}, d.size)
}

func (d *datagrams) reply(p packet) (reply, bool, error) {
	var answer reply
	if json.Unmarshal(p.payload, &answer) != nil || answer.Nonce != d.nonce {
		return reply{}, false, nil
	}
	return answer, true, nil
}
