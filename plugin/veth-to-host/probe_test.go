package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
)

// A connection carries this much each way: some connect and never carry a byte.
const bulk = 64 << 10

// serve starts a server on the endpoint port, for TCP and UDP, that answers with its name and the client's address.
func serve(t *testing.T, n ns.NetNS, name string) {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	in(t, n, func() (err error) {
		if tcp, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", endpointPort)); err != nil {
			return err
		}
		udp, err = net.ListenPacket("udp", fmt.Sprintf("[::]:%d", endpointPort))
		return err
	})
	t.Cleanup(func() {
		tcp.Close()
		udp.Close()
	})
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go answer(conn, name)
		}
	}()
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			udp.WriteTo([]byte(seen(name, from)), from)
		}
	}()
}

func answer(conn net.Conn, name string) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.CopyN(io.Discard, conn, bulk); err != nil {
		return
	}
	fmt.Fprintf(conn, "%s\n%s", seen(name, conn.RemoteAddr()), strings.Repeat(".", bulk))
}

func seen(name string, from net.Addr) string {
	host, _, _ := net.SplitHostPort(from.String())
	return name + " sees " + strings.TrimPrefix(host, "::ffff:")
}

const noAnswer = "no answer"

// patience limits how long a test waits for something that does not happen. No verdict depends on it.
const patience = 2 * time.Minute

// ask connects from a namespace and returns what the server says.
func ask(from ns.NetNS, network, address string, port int) string {
	return askFor(patience, from, network, address, port)
}

// askFor calls ask, with a limit.
func askFor(wait time.Duration, from ns.NetNS, network, address string, port int) string {
	var answer string
	err := from.Do(func(ns.NetNS) error {
		conn, err := net.DialTimeout(network, net.JoinHostPort(address, fmt.Sprint(port)), wait)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(wait))
		size := bulk
		if network == "udp" {
			size = 1
		}
		if _, err := conn.Write(make([]byte, size)); err != nil {
			return err
		}
		var raw []byte
		if network == "udp" {
			raw = make([]byte, 100)
			n, err := conn.Read(raw)
			answer = string(raw[:n])
			return err
		}
		raw, err = io.ReadAll(conn)
		var padding string
		answer, padding, _ = strings.Cut(string(raw), "\n")
		if err == nil && len(padding) != bulk {
			err = fmt.Errorf("got %d bytes back, want %d", len(padding), bulk)
		}
		return err
	})
	if err != nil {
		return noAnswer
	}
	return answer
}
