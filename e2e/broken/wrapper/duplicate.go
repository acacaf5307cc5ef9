package main

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// findDuplicate fails an ADD if another host answers for the address, and undoes the ADD if undo is set.
func (c *call) findDuplicate(a answer, next plugin, undo bool) answer {
	result, ok := a.result()
	if !ok {
		return a
	}
	for _, ip := range objects(result, "ips") {
		text, _ := ip["address"].(string)
		prefix, err := netip.ParsePrefix(text)
		if err != nil || !prefix.Addr().Is4() {
			continue
		}
		used := false
		err = c.inPod(func() (err error) {
			used, err = probe(c.env["CNI_IFNAME"], prefix.Addr())
			return err
		})
		if err != nil {
			return c.fail(110, "%s: %v", prefix.Addr(), err)
		}
		if !used {
			continue
		}
		if undo {
			next(c.as("DEL"))
		} else {
			next(c.withoutIPAM().as("DEL"))
		}
		return c.fail(111, "%s: somebody has that address", prefix.Addr())
	}
	return a
}

// probe sends an ARP probe for an address (RFC 5227), and waits a short time for an answer.
func probe(name string, ip netip.Addr) (bool, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return false, err
	}
	arp := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(arp))
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{
		Protocol: arp, Ifindex: link.Attrs().Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255},
	}
	if err := unix.Bind(fd, to); err != nil {
		return false, err
	}
	address := ip.As4()
	packet := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	packet = append(packet, link.Attrs().HardwareAddr...)
	packet = append(packet, make([]byte, 4+6)...)
	packet = append(packet, address[:]...)
	if err := unix.Sendto(fd, packet, 0, to); err != nil {
		return false, err
	}
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{
			Usec: 50000,
		}); err != nil {
			return false, err
		}
		buffer := make([]byte, 64)
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, err
		}
		// An answer from the probed address (RFC 826).
		if n >= 28 && buffer[7] == 2 && net.IP(buffer[14:18]).Equal(address[:]) {
			return true, nil
		}
	}
	return false, nil
}

// overlookDuplicates is an ADD that lets the kernel look for duplicates of IPv6 addresses, and does not ask it.
func (c *call) overlookDuplicates(next plugin) answer {
	_ = c.inPod(func() error {
		_, err := sysctl.Sysctl("net/ipv6/conf/default/accept_dad", "0")
		return err
	})
	a := next(c)
	if a.status != 0 {
		return a
	}
	err := c.setInPod("ipv6", "accept_dad", "1")
	if err == nil {
		err = c.inPod(c.addAgain)
	}
	if err != nil {
		return c.fail(100, "%v", err)
	}
	time.Sleep(2 * time.Second) // the kernel takes about one
	return a
}
