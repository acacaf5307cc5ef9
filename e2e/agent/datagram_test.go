package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
)

// listenEnv is set when this binary is a daemon with UDP sockets, to a file that it makes when they are open.
const listenEnv = "CNITEST_TEST_LISTEN"

// hear opens sockets of each kind, and prints what arrives at one of them.
func hear(ready string) error {
	everywhere, err := net.ListenPacket("udp4", ":7979")
	if err != nil {
		return err
	}
	onlyLoopback := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) (err error) {
		return errors.Join(conn.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") }), err)
	}}
	others := []net.PacketConn{}
	for _, address := range []string{":0", "127.0.0.1:7980", ":68"} {
		conn, listenErr := net.ListenPacket("udp4", address)
		others, err = append(others, conn), errors.Join(err, listenErr)
	}
	deaf, listenErr := onlyLoopback.ListenPacket(context.Background(), "udp4", ":7982")
	client, dialErr := net.DialUDP("udp4", &net.UDPAddr{Port: 7981}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53})
	others = append(others, deaf, client)
	if err := errors.Join(err, listenErr, dialErr, os.WriteFile(ready, nil, 0o600)); err != nil {
		return err
	}
	defer func() { fmt.Println(len(others)) }() // until then they are open
	for data := make([]byte, 64); ; {
		n, _, err := everywhere.ReadFrom(data)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", data[:n])
	}
}

func TestDatagrams(t *testing.T) {
	c := start(t)
	pod := namespace(t, c, "hostile")
	inside, err := ns.GetNS(pod)
	check(t, err)
	defer inside.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "reached"
	check(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(inside.Fd()),
	}))
	raise := func(name, address string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		prefix, err := netlink.ParseAddr(address)
		return errors.Join(err, netlink.AddrAdd(l, prefix), netlink.LinkSetUp(l))
	}
	check(t, raise("reached", "10.9.0.1/24"))
	check(t, inside.Do(func(ns.NetNS) error { return raise("eth0", "10.9.0.2/24") }))

	self, err := os.Executable()
	check(t, err)
	ready := filepath.Join(t.TempDir(), "ready")
	check(t, c.StartDaemon(ctx(t), agent.DaemonArgs{
		Name: "d", Command: []string{self}, Env: []string{listenEnv + "=" + ready}, File: ready, Within: patience,
	}))
	exposed, err := c.Exposure(ctx(t), "d")
	check(t, err)
	text := func(a netip.AddrPort) string { return a.String() }
	if diff := cmp.Diff([]netip.AddrPort{
		netip.MustParseAddrPort("0.0.0.0:7979"), netip.MustParseAddrPort("0.0.0.0:7982"),
	}, exposed.Datagrams, cmp.Transformer("text", text)); diff != "" {
		t.Errorf("UDP addresses (-want +got):\n%s", diff)
	}

	check(t, c.FreezeDaemon(ctx(t), agent.FreezeArgs{Name: "d"}))
	heard, deaf := netip.MustParseAddrPort("10.9.0.1:7979"), netip.MustParseAddrPort("10.9.0.1:7982")
	check(t, c.Send(ctx(t), agent.ReachArgs{Netns: pod, Addresses: []netip.AddrPort{
		heard, deaf, netip.MustParseAddrPort("10.8.0.1:7979"),
	}}))
	for range 2 { // what is seen stays
		got, err := c.Queued(ctx(t), "d")
		check(t, err)
		if diff := cmp.Diff([]netip.AddrPort{heard}, got, cmp.Transformer("text", text)); diff != "" {
			t.Errorf("arrived (-want +got):\n%s", diff)
		}
	}
	check(t, c.FreezeDaemon(ctx(t), agent.FreezeArgs{Name: "d", Thaw: true}))
	eventually(t, func() error {
		state, err := c.Daemon(ctx(t), "d")
		if strings.Count(state.Output, "cnitest reaches 10.9.0.1:7979\n") != 3 {
			return fmt.Errorf("got %q, %w; want what Send sent, thrice", state.Output, err)
		}
		return nil
	})
}
