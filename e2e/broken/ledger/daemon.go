package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// socket is where the daemon answers, state the file in which it keeps who has which address.
	socket = "/run/ledger/ledger.sock"
	state  = "/var/lib/ledger/state.json"
)

// faults returns the faults of the daemon, each with what happens.
func faults() map[string]string {
	return map[string]string{
		"":               "nothing",
		"by-pod-name":    "DEL releases what the pod of that name has, whichever container it is",
		"never-collects": "GC releases nothing",
		"open-port":      "others reach the daemon over TCP, at each address of the node",
		"open-datagrams": "others reach it over UDP, at each address of the node",
		"only-clients":   "nothing: no pod reaches its UDP sockets, or they are those of clients",
		"open-socket":    "every user may connect",
		"open-file":      "every user may change the state",
	}
}

type attachment struct {
	Container string `json:"container"`
	Interface string `json:"interface"`
}

// request is what the daemon is asked, once for each connection.
type request struct {
	Verb       string       `json:"verb"`
	Attachment attachment   `json:"attachment"`
	Pod        string       `json:"pod"`
	From       netip.Addr   `json:"from"`
	To         netip.Addr   `json:"to"`
	Valid      []attachment `json:"valid"`
}

type reply struct {
	Address netip.Addr `json:"address"`
	Error   string     `json:"error,omitempty"`
}

type owner struct {
	attachment
	Pod string `json:"pod"`
}

// ledger is who has which address. What is on the disk is never older than what a client knows.
type ledger struct {
	fault string
	mu    sync.Mutex
	has   map[netip.Addr]owner
	udp   []net.PacketConn // so that the collector of garbage does not close them
}

func serve(fault string) error {
	if _, known := faults()[fault]; !known {
		return fmt.Errorf("fault %q: want one of %q", fault, slices.Sorted(maps.Keys(faults())))
	}
	l := &ledger{fault: fault, has: map[netip.Addr]owner{}}
	data, err := os.ReadFile(state)
	if err == nil {
		err = json.Unmarshal(data, &l.has)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", state, err)
	}
	listener, err := l.listen()
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go l.talk(conn)
	}
}

func (l *ledger) listen() (net.Listener, error) {
	for _, path := range []string{socket, state} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	if l.fault == "open-port" {
		if _, err := net.Listen("tcp4", ":7979"); err != nil {
			return nil, err
		}
	}
	if err := l.openUDP(); err != nil {
		return nil, err
	}
	if l.fault == "open-socket" {
		return listener, os.Chmod(socket, 0o666)
	}
	return listener, os.Chmod(socket, 0o600)
}

// openUDP opens the UDP sockets of a fault.
func (l *ledger) openUDP() error {
	switch l.fault {
	case "open-datagrams":
		conn, err := net.ListenPacket("udp4", ":7979")
		if err != nil {
			return err
		}
		go func() {
			// It never answers.
			for data := make([]byte, 64); err == nil; _, _, err = conn.ReadFrom(data) {
			}
		}()
	case "only-clients":
		onlyLoopback := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) (err error) {
			return errors.Join(conn.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") }), err)
		}}
		conn, err := onlyLoopback.ListenPacket(context.Background(), "udp4", ":7979")
		l.udp = append(l.udp, conn)
		for _, address := range []string{":0", "127.0.0.1:7980", ":68"} {
			conn, listenErr := net.ListenPacket("udp4", address)
			l.udp, err = append(l.udp, conn), errors.Join(err, listenErr)
		}
		router := &net.UDPAddr{IP: net.IPv4(192, 168, 0, 1), Port: 53}
		client, dialErr := net.DialUDP("udp4", &net.UDPAddr{Port: 7981}, router)
		l.udp = append(l.udp, client)
		return errors.Join(err, dialErr)
	}
	return nil
}

func (l *ledger) talk(conn net.Conn) {
	defer conn.Close()
	var r request
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return
	}
	address, err := l.answer(r)
	got := reply{Address: address}
	if err != nil {
		got.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(got)
}

func (l *ledger) answer(r request) (netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch r.Verb {
	case "ADD":
		for ip, o := range l.has {
			if o.attachment == r.Attachment {
				return ip, nil
			}
		}
		ip, err := l.free(r)
		if err != nil {
			return ip, err
		}
		l.has[ip] = owner{r.Attachment, r.Pod}
		return ip, l.write()
	case "STATUS":
		return l.free(r)
	}
	maps.DeleteFunc(l.has, func(_ netip.Addr, o owner) bool {
		switch {
		case r.Verb == "GC":
			return !slices.Contains(r.Valid, o.attachment) && l.fault != "never-collects"
		case l.fault == "by-pod-name":
			return o.Pod == r.Pod
		}
		return o.attachment == r.Attachment
	})
	return netip.Addr{}, l.write()
}

// free returns the first address that nobody has.
func (l *ledger) free(r request) (netip.Addr, error) {
	for ip := r.From; ip.IsValid() && !r.To.Less(ip); ip = ip.Next() {
		if _, taken := l.has[ip]; !taken {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no free address from %s to %s", r.From, r.To)
}

func (l *ledger) write() error {
	data, err := json.Marshal(l.has)
	if err != nil {
		return err
	}
	if err := os.WriteFile(state+".new", data, 0o600); err != nil {
		return err
	}
	if l.fault == "open-file" {
		if err := os.Chmod(state+".new", 0o666); err != nil {
			return err
		}
	}
	return os.Rename(state+".new", state)
}
