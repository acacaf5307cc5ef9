package agent

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

// The states of sockets in tables of /proc/net: TCP_LISTEN, and TCP_CLOSE, which for UDP means not connected.
const (
	listens     = "0A"
	unconnected = "07"
)

// listening returns the TCP addresses beyond the loopback on which the processes of a group listen, and the UDP
// addresses at which anyone may send them something.
func listening(group int) (tcp, udp []netip.AddrPort, err error) {
	owned, err := socketsOf(group)
	if err != nil {
		return nil, nil, err
	}
	for _, table := range []string{"tcp", "tcp6"} {
		found, err := inTable(group, table, listens, owned)
		if err != nil {
			return nil, nil, err
		}
		tcp = append(tcp, found...)
	}
	for _, table := range []string{"udp", "udp6"} {
		found, err := inTable(group, table, unconnected, owned)
		if err != nil {
			return nil, nil, err
		}
		udp = append(udp, found...)
	}
	first, last, err := chosenByKernel()
	return tcp, slices.DeleteFunc(udp, func(addr netip.AddrPort) bool {
		const dhcp, dhcpv6 = 68, 546 // of clients, which servers answer that they do not know
		port := addr.Port()
		return port == dhcp || port == dhcpv6 || first <= port && port <= last || addr.Addr().IsMulticast()
	}), err
}

// chosenByKernel returns the first and the last port that the kernel gives to sockets that want any.
func chosenByKernel() (first, last uint16, err error) {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(data), &first, &last)
	}
	return first, last, err
}

// inTable returns the addresses beyond the loopback of sockets that are in a state and in a table of a process.
func inTable(process int, table, state string, owned map[string]descriptor) (all []netip.AddrPort, err error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", process, table))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without IPv6
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != state {
			continue
		}
		if _, ours := owned[fields[9]]; !ours {
			continue
		}
		addr, err := procAddress(fields[1])
		if err != nil {
			return nil, err
		}
		if !addr.Addr().IsLoopback() {
			all = append(all, addr)
		}
	}
	return all, lines.Err()
}

// descriptor is a file descriptor of a process.
type descriptor struct{ process, fd int }

// socketsOf returns the sockets that the processes of a group have, by their inodes.
func socketsOf(group int) (map[string]descriptor, error) {
	sockets := map[string]descriptor{}
	dirs, err := filepath.Glob("/proc/[0-9]*/fd")
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if of, err := unix.Getpgid(pid); err != nil || of != group {
			continue
		}
		entries, _ := os.ReadDir(dir) // it may have ended
		for _, entry := range entries {
			target, _ := os.Readlink(filepath.Join(dir, entry.Name()))
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				fd, _ := strconv.Atoi(entry.Name())
				sockets[strings.TrimSuffix(inode, "]")] = descriptor{pid, fd}
			}
		}
	}
	return sockets, nil
}

// procAddress reads an address of /proc/net: words of four bytes in the order of the machine, and the port.
func procAddress(text string) (netip.AddrPort, error) {
	words, port, _ := strings.Cut(text, ":")
	data, err := hex.DecodeString(words)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err := errors.Join(err, portErr); err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", text, err)
	}
	for i := 0; i+4 <= len(data); i += 4 {
		slices.Reverse(data[i : i+4])
	}
	addr, ok := netip.AddrFromSlice(data)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q: want 4 or 16 bytes", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}

// ReachArgs name TCP addresses for Reach, or UDP addresses for Send.
type ReachArgs struct {
	Netns     string           `json:"netns"`
	Addresses []netip.AddrPort `json:"addresses"`
}

// reachWithin is how long an address may take to accept a connection.
const reachWithin = time.Second

// Reach returns the TCP addresses that accept a connection from a namespace.
func (s *Server) Reach(args ReachArgs, reached *[]netip.AddrPort) error {
	var mu sync.Mutex
	var group sync.WaitGroup
	all := []netip.AddrPort{}
	for _, addr := range args.Addresses {
		group.Go(func() {
			ctx, cancel := machinetime.WithTimeout(context.Background(), reachWithin)
			defer cancel()
			_ = inNamespace(args.Netns, func() error {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, addr)
				return conn.Close()
			})
		})
	}
	group.Wait()
	slices.SortFunc(all, netip.AddrPort.Compare)
	*reached = all
	return nil
}

// Reach returns the TCP addresses that accept a connection from a namespace.
func (c *Client) Reach(ctx context.Context, args ReachArgs) ([]netip.AddrPort, error) {
	return call[[]netip.AddrPort](ctx, c, "Reach", args)
}
