package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// chain is a chain of this plugin's table in a namespace. Its rules are for IPv4, unless it is for IPv6. Its name is
// "chain" unless it has one.
type chain struct {
	table    string // empty means broken
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	ipv6     bool
}

// install makes the chain with one rule, again with each ADD.
func (ch chain) install(parts ...[]expr.Any) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	family := nftables.TableFamilyIPv4
	if ch.ipv6 {
		family = nftables.TableFamilyIPv6
	}
	table := conn.AddTable(&nftables.Table{Name: cmp.Or(ch.table, "broken"), Family: family})
	added := conn.AddChain(&nftables.Chain{
		Name: cmp.Or(ch.name, "chain"), Table: table, Type: ch.kind, Hooknum: ch.hook, Priority: ch.priority,
	})
	conn.FlushChain(added)
	rule := &nftables.Rule{Table: table, Chain: added}
	for _, part := range parts {
		rule.Exprs = append(rule.Exprs, part...)
	}
	conn.AddRule(rule)
	return conn.Flush()
}

// beforeOthers returns a chain that chooses source addresses before all others: only the first translation of a
// connection counts.
func beforeOthers() chain {
	return chain{
		kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting,
		priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATSource - 10),
	}
}

func oifname(name string) []expr.Any { return named(expr.MetaKeyOIFNAME, name) }

func iifname(name string) []expr.Any { return named(expr.MetaKeyIIFNAME, name) }

// named returns a match for packets of an interface.
func named(key expr.MetaKey, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded},
	}
}

// forwarded returns a match for packets that another machine sent.
func forwarded() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// udpTo returns a match for one address and port.
func udpTo(to netip.AddrPort) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: to.Addr().AsSlice()},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(to.Port())},
	}
}

// limit drops everything that a pod receives beyond 8 MiB.
func limit(c *call) error {
	return inPod(c, func(netlink.Link) error {
		return arriving().install([]expr.Any{
			&expr.Quota{Bytes: 8 << 20, Over: true}, &expr.Verdict{Kind: expr.VerdictDrop},
		})
	})
}

func masquerade(*call) error {
	return chain{
		kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, priority: nftables.ChainPriorityNATSource,
	}.install([]expr.Any{&expr.Masq{}})
}

// keepClients translates each source to itself.
func keepClients(*call) error {
	return beforeOthers().install([]expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	})
}

func translateToFirstNIC(c *call) error {
	addresses, err := netlinksafe.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	first := &netlink.Addr{}
	for i, a := range addresses {
		if a.Scope == int(netlink.SCOPE_UNIVERSE) && (first.IPNet == nil || a.LinkIndex < first.LinkIndex) {
			first = &addresses[i]
		}
	}
	return beforeOthers().install(forwarded(), oifname(c.Master), []expr.Any{
		&expr.Immediate{Register: 1, Data: first.IP.To4()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	})
}

func proxy(c *call) error {
	return inPod(c, func(netlink.Link) error {
		output := chain{
			kind: nftables.ChainTypeNAT, hook: nftables.ChainHookOutput, priority: nftables.ChainPriorityNATDest,
		}
		return output.install(udpTo(c.Service), []expr.Any{
			&expr.Immediate{Register: 1, Data: c.Endpoint.Addr().AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(c.Endpoint.Port())},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
		})
	})
}

// mapPort translates what the node itself sends to its own port.
func mapPort(c *call) error {
	output := chain{
		name: "own",
		kind: nftables.ChainTypeNAT, hook: nftables.ChainHookOutput, priority: nftables.ChainPriorityNATDest,
	}
	return translatePorts(c, output, []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	})
}

// takePort also translates what the node forwards to that port, whoever it is for.
func takePort(c *call) error {
	forwarded := chain{
		name: "forwarded",
		kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityNATDest,
	}
	return errors.Join(mapPort(c), translatePorts(c, forwarded, nil))
}

// translatePorts translates packets that match to the ports of the pod that asks for ports of the node. Each port has a
// chain of its own.
func translatePorts(c *call, in chain, match []expr.Any) error {
	name := in.name
	for _, m := range c.RuntimeConfig.PortMappings {
		in.name = fmt.Sprintf("%s-%d", name, m.HostPort)
		if err := in.install(tcp(), []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(m.HostPort)},
		}, match, []expr.Any{
			&expr.Immediate{Register: 1, Data: c.result.IPs[0].Address.IP.To4()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(m.ContainerPort)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
		}); err != nil {
			return err
		}
	}
	return nil
}

// removeTable removes this plugin's table, if there is one.
func removeTable() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "broken", Family: nftables.TableFamilyIPv4})
	conn.DelTable(table)
	return conn.Flush()
}

func mirror(c *call) error {
	return inPod(c, func(underlay netlink.Link) error {
		var gateway net.IP
		for _, ip := range c.result.IPs {
			gateway = ip.Gateway.To4()
		}
		post := chain{
			kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPostrouting, priority: nftables.ChainPriorityFilter,
		}
		return post.install(oifname(c.podSide().Name), []expr.Any{
			&expr.Immediate{Register: 1, Data: gateway},
			&expr.Immediate{Register: 2, Data: binaryutil.NativeEndian.PutUint32(uint32(underlay.Attrs().Index))},
			&expr.Dup{RegAddr: 1, RegDev: 2, IsRegDevSet: true},
		})
	})
}

func emptyForward(*call) error {
	return emptyChains(func(ch *nftables.Chain) bool {
		return ch.Type == nftables.ChainTypeFilter && *ch.Hooknum == *nftables.ChainHookForward
	})
}

// forgetWayIn removes the rules with which replies leave by the interface of their connection.
func forgetWayIn(c *call) error {
	return inPod(c, func(netlink.Link) error {
		return emptyChains(func(ch *nftables.Chain) bool { return ch.Type == nftables.ChainTypeRoute })
	})
}

// emptyChains removes the rules in base chains of others.
func emptyChains(chosen func(*nftables.Chain) bool) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return err
	}
	for _, ch := range chains {
		if ch.Hooknum != nil && chosen(ch) {
			conn.FlushChain(ch)
		}
	}
	return conn.Flush()
}

// arriving returns a chain for packets that a pod receives, leaving one for packets that it sends.
func arriving() chain {
	return chain{kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput, priority: nftables.ChainPriorityFilter}
}

func leaving() chain {
	return chain{kind: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, priority: nftables.ChainPriorityFilter}
}

// arriving6 returns such a chain for IPv6.
func arriving6() chain {
	ch := arriving()
	ch.ipv6 = true
	return ch
}

// dropping returns a function that makes a chain in the pod which drops packets that match the parts.
func dropping(of func() chain, parts ...expr.Any) func(*call) error {
	return func(c *call) error {
		return inPod(c, func(netlink.Link) error {
			return of().install(parts, []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
		})
	}
}

// tcp returns a match for TCP.
func tcp() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{
		Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP},
	}}
}

// large returns a match for packets of more than 1400 bytes.
func large() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyLEN, Register: 1}, &expr.Byteorder{
		SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4,
	}, &expr.Cmp{Op: expr.CmpOpGt, Register: 1, Data: binaryutil.BigEndian.PutUint32(1400)}}
}

// newConnection returns a match for the first packet of a connection.
func newConnection() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// checkNewConnections drops the first packets of connections from the pod that have another source than its address.
func checkNewConnections(c *call) error {
	link := c.nodeSide().Name
	return chain{
		name: link, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting,
		priority: nftables.ChainPriorityFilter,
	}.install(newConnection(), iifname(link), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: c.result.IPs[0].Address.IP.To4()},
		&expr.Verdict{Kind: expr.VerdictDrop},
	})
}

// lookUpClient counts packets by their link and by who sent the first packet of the connection. To libnftables 1.0.6
// an address that connection tracking knows has no length.
func lookUpClient(*call) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "broken", Family: nftables.TableFamilyIPv4})
	set := &nftables.Set{
		Table: table, Name: "clients", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr),
	}
	if err := conn.AddSet(set, nil); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	return chain{
		kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityFilter,
	}.install([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Ct{Key: expr.CtKeySRC, Register: 12}, // the direction of the first packet is 0
		&expr.Lookup{SourceRegister: 1, SetName: set.Name},
		&expr.Counter{},
	})
}
