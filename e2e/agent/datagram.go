package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

// reachText begins what Send sends. The address follows, so that who finds a datagram knows which way it came.
const reachText = "cnitest reaches "

// Send sends a datagram to UDP addresses from a namespace, thrice. Whether one arrives Queued knows.
func (s *Server) Send(args ReachArgs, _ *None) error {
	return inNamespace(args.Netns, func() error {
		for range 3 {
			for _, addr := range args.Addresses {
				conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
				if err != nil {
					continue // it has no route
				}
				_, _ = conn.Write([]byte(reachText + addr.String())) // an error tells of the one before
				if err := conn.Close(); err != nil {
					return err
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		return nil
	})
}

// Send sends a datagram to UDP addresses from a namespace.
func (c *Client) Send(ctx context.Context, args ReachArgs) error { return tell(ctx, c, "Send", args) }

// Queued returns to which addresses Send has sent what a daemon that is frozen has not read yet.
func (s *Server) Queued(name string, addresses *[]netip.AddrPort) error {
	return s.withDaemon(name, func(d *daemon) error {
		if !d.running() {
			return fmt.Errorf("daemon %s: it does not run", name)
		}
		sockets, err := socketsOf(d.cmd.Process.Pid)
		if err != nil {
			return err
		}
		ctx, cancel := machinetime.WithTimeout(context.Background(), reachWithin)
		defer cancel()
		all := []netip.AddrPort{}
		for ; len(all) == 0 && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			for _, socket := range sockets {
				found, err := socket.queued()
				if err != nil {
					return fmt.Errorf("daemon %s: a socket: %w", name, err)
				}
				all = append(all, found...)
			}
		}
		slices.SortFunc(all, netip.AddrPort.Compare)
		*addresses = slices.Compact(all)
		return nil
	})
}

// Queued returns to which addresses Send has sent what a daemon that is frozen has not read yet.
func (c *Client) Queued(ctx context.Context, name string) ([]netip.AddrPort, error) {
	return call[[]netip.AddrPort](ctx, c, "Queued", name)
}

// queued looks through what a UDP socket of another process has received, and leaves it there. Other sockets have
// nothing.
func (d descriptor) queued() (all []netip.AddrPort, err error) {
	process, err := unix.PidfdOpen(d.process, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(process)
	socket, err := unix.PidfdGetfd(process, d.fd, 0)
	if errors.Is(err, unix.EBADF) {
		return nil, nil // it was closed before the daemon was frozen
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(socket)
	if protocol, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil ||
		protocol != unix.IPPROTO_UDP {
		return nil, err
	}
	// From this offset on, each look goes on where the one before ended (socket(7), SO_PEEK_OFF).
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 0); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEEK_OFF, -1)) }()
	for data := make([]byte, 1<<16); ; {
		n, _, err := unix.Recvfrom(socket, data, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != nil {
			return all, nil //nolint:nilerr // there is no more
		}
		if text, ours := strings.CutPrefix(string(data[:n]), reachText); ours {
			addr, err := netip.ParseAddrPort(text)
			if err != nil {
				return nil, err
			}
			all = append(all, addr)
		}
	}
}
