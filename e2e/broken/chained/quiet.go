package main

import (
	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What follows breaks a little: most of what people try by hand goes on working.

// udp lets a rule pass for UDP.
func udp() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
	}
}

// fragments lets a rule pass for the fragments of a datagram: those that more follow, and those that are not the first.
func fragments() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0x3f, 0xff}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	}
}

// oneIn lets a rule pass for every n-th packet.
func oneIn(n uint32) []expr.Any {
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: n, Type: unix.NFT_NG_INCREMENTAL},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0, 0, 0}},
	}
}

// groupTraffic lets a rule pass for what is sent to many.
func groupTraffic() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.PACKET_HOST}},
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.PACKET_LOOPBACK}},
	}
}

// earliest returns a chain that sees packets before they are put together again.
func earliest() chain {
	return chain{
		kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityRef(-450),
	}
}

// setInPod gives a setting of the pod another value; %s in its name is the interface.
func setInPod(name func(ifName string) string, value string) func(*call) error {
	return func(c *call) error {
		return inPod(c, func(netlink.Link) error {
			_, err := sysctl.Sysctl(name(c.IfName), value)
			return err
		})
	}
}

// lowerTTL lets what the pod sends die at the first router.
func lowerTTL(c *call) error {
	return setInPod(func(string) string { return "net/ipv4/ip_default_ttl" }, "1")(c)
}
