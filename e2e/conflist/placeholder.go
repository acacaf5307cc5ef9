package conflist

import (
	"bytes"
	"net/netip"
	"regexp"
	"strconv"
)

var placeholderPattern = regexp.MustCompile(`\$\{NODE_[A-Za-z0-9_]*\}?`)

// placeholders are the values of one node.
type placeholders struct {
	name  string
	index int // from 1, so that a subnet's or address's number can be made of it
	ip    netip.Addr
}

// sampleNode stands in while no node is known.
func sampleNode() placeholders {
	return placeholders{name: "node", index: 1, ip: netip.AddrFrom4([4]byte{192, 0, 2, 1})}
}

// substitute replaces `${NODE_NAME}`, `${NODE_INDEX}` and `${NODE_IP}` in the text, whatever JSON value they stand in.
// The text keeps its lines.
func substitute(name string, data []byte, node placeholders) ([]byte, error) {
	d := document{name: name, text: data}
	values := map[string]string{
		"${NODE_NAME}":  node.name,
		"${NODE_INDEX}": strconv.Itoa(node.index),
		"${NODE_IP}":    node.ip.String(),
	}
	for _, at := range placeholderPattern.FindAllIndex(data, -1) {
		if word := string(data[at[0]:at[1]]); values[word] == "" {
			d.reject(&value{offset: at[0]}, "no placeholder %q; write ${NODE_NAME}, ${NODE_INDEX} or ${NODE_IP}", word)
		}
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	for word, with := range values {
		data = bytes.ReplaceAll(data, []byte(word), []byte(with))
	}
	return data, nil
}
