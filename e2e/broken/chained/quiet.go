package main

import (
	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The following faults break little: most things that people try by hand still work.

// udp returns a match for UDP.
func udp() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
	}
}

// fragments returns a match for fragments of a datagram: those that are followed by others, and those that are not the
// first.
func fragments() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0x3f, 0xff}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	}
}

// oneIn returns a match for every n-th packet.
func oneIn(n uint32) []expr.Any {
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: n, Type: unix.NFT_NG_INCREMENTAL},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0, 0, 0}},
	}
}

// groupTraffic returns a match for broadcasts and multicasts.
func groupTraffic() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.PACKET_HOST}},
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.PACKET_LOOPBACK}},
	}
}

// earliest returns a chain that sees packets before they are reassembled.
func earliest() chain {
	return chain{
		kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityRef(-450),
	}
}

// setInPod returns a function that changes a setting of the pod; %s in its name is the interface.
func setInPod(name func(ifName string) string, value string) func(*call) error {
	return func(c *call) error {
		return inPod(c, func(netlink.Link) error {
			_, err := sysctl.Sysctl(name(c.IfName), value)
			return err
		})
	}
}

// lowerTTL makes the first router drop packets of the pod.
func lowerTTL(c *call) error {
	return setInPod(func(string) string { return "net/ipv4/ip_default_ttl" }, "1")(c)
}
