package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// metadata is the part of an instance metadata service that ipamd needs, without tokens.
type metadata struct {
	mu   sync.Mutex
	tree map[string]string
	url  string
}

func (m *metadata) set(interfaces []eni) {
	tree := map[string]string{"instance-id": "i-1", "mac": interfaces[0].mac}
	var macs []string
	for i, e := range interfaces {
		macs = append(macs, e.mac+"/")
		for key, value := range map[string]string{
			"interface-id": fmt.Sprintf("eni-%d", i), "device-number": fmt.Sprint(i),
			"subnet-ipv4-cidr-block": e.subnet.String() + "/24",
			"local-ipv4s":            strings.Join(append([]string{e.own.String()}, e.pods...), "\n"),
			"vpc-ipv4-cidr-blocks":   "10.0.0.0/16", "ipv6-prefix": e.prefix6,
		} {
			tree["network/interfaces/macs/"+e.mac+"/"+key] = value
		}
	}
	tree["network/interfaces/macs"] = strings.Join(macs, "\n")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tree = tree
}

// serve listens in the namespace of the calling thread, once, and returns the URL.
func (m *metadata) serve(t *testing.T) (string, error) {
	if m.url != "" {
		return m.url, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: m}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	m.url = "http://" + listener.Addr().String()
	return m.url, nil
}

// ServeHTTP answers a request.
func (m *metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := m.tree[strings.Trim(strings.TrimPrefix(r.URL.Path, "/latest/meta-data/"), "/")]
	if text == "" {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, text)
}
