package main

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// proxy is a kube-proxy with as few rules as possible: services and node ports lead to one endpoint each, a mark
// requests masquerading, and forwarded packets that belong to no connection are dropped.
type proxy struct {
	services  map[string]string // from the service's address to the endpoint's
	nodePorts []nodePort
}

type nodePort struct {
	port     uint16
	endpoint string
	cluster  bool // external traffic policy Cluster; else Local
}

const (
	servicePort, endpointPort = 80, 8080
	masqueradeMark            = 0x4000
)

func (p proxy) install(t *testing.T, n ns.NetNS) {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(int(n.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	for _, ipv6 := range []bool{false, true} {
		p.installFamily(conn, ipv6)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

func (p proxy) installFamily(conn *nftables.Conn, ipv6 bool) {
	table := &nftables.Table{Name: "kube-proxy", Family: nftables.TableFamilyIPv4}
	if ipv6 {
		table.Family = nftables.TableFamilyIPv6
	}
	conn.AddTable(table)
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook,
		priority nftables.ChainPriority,
	) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Name: name, Table: table, Type: kind, Hooknum: hook, Priority: &priority})
	}
	rule := func(c *nftables.Chain, parts ...[]expr.Any) {
		conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: concat(parts...)})
	}
	services := conn.AddChain(&nftables.Chain{Name: "services", Table: table})
	for _, c := range []*nftables.Chain{
		chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest),
		chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest),
	} {
		rule(c, []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: services.Name}})
	}
	for asked, endpoint := range p.services {
		if netip.MustParseAddr(asked).Is6() != ipv6 {
			continue
		}
		to := concat(destinationAddress(ipv6, register1), equals(netip.MustParseAddr(asked).AsSlice()))
		rule(services, sourceAddress(ipv6, register1), equals(netip.MustParseAddr(endpoint).AsSlice()), to,
			setMark(masqueradeMark, masqueradeMark))
		for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			rule(services, to, port(protocol, servicePort), translate(endpoint))
		}
	}
	for _, np := range p.nodePorts {
		if netip.MustParseAddr(np.endpoint).Is6() != ipv6 {
			continue
		}
		to := concat(toLocal(), port(unix.IPPROTO_TCP, np.port))
		if np.cluster {
			rule(services, to, setMark(masqueradeMark, masqueradeMark))
		}
		rule(services, to, translate(np.endpoint))
	}
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	rule(post, loadMeta(expr.MetaKeyMARK, register1), bits(masqueradeMark, 0),
		equals(binaryutil.NativeEndian.PutUint32(masqueradeMark)), []expr.Any{&expr.Masq{}})
	forward := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
	rule(forward, invalid(), verdict(expr.VerdictDrop))
}

func toLocal() []expr.Any {
	return concat([]expr.Any{&expr.Fib{Register: register1, FlagDADDR: true, ResultADDRTYPE: true}},
		equals(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)))
}

func port(protocol byte, number uint16) []expr.Any {
	return concat(loadMeta(expr.MetaKeyL4PROTO, register1), equals([]byte{protocol}),
		[]expr.Any{&expr.Payload{DestRegister: register1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}},
		equals(binary.BigEndian.AppendUint16(nil, number)))
}

func translate(endpoint string) []expr.Any {
	ip := netip.MustParseAddr(endpoint)
	family := uint32(unix.NFPROTO_IPV4)
	if ip.Is6() {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: ip.AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, endpointPort)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1, RegAddrMax: 1, RegProtoMin: 2, RegProtoMax: 2, Specified: true},
	}
}

func invalid() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register1},
		&expr.Bitwise{
			SourceRegister: register1, DestRegister: register1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitINVALID), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register1, Data: make([]byte, 4)},
	}
}
