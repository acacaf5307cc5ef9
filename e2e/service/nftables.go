package service

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The names of the table and of its objects, as in kube-proxy.
const (
	tableName = "kube-proxy"

	servicesChain         = "services"
	masqueradingChain     = "masquerading"
	rejectChain           = "reject-chain"
	clusterIPsCheck       = "cluster-ips-check"
	serviceEndpointsCheck = "service-endpoints-check"
	nodePortCheck         = "nodeport-endpoints-check"

	clusterIPsSet       = "cluster-ips"
	nodePortIPsSet      = "nodeport-ips"
	hairpinSet          = "hairpin-connections"
	serviceIPsMap       = "service-ips"
	serviceNodePortsMap = "service-nodeports"
	noEndpointIPsMap    = "no-endpoint-services"
	noEndpointPortsMap  = "no-endpoint-nodeports"
)

// transactionBytes lets a transaction contain some thousand services. The kernel acknowledges every message of a
// transaction, with about 800 bytes each, before the first acknowledgement is read, and its default buffer is full
// after about 250. In a user namespace the kernel grants only net.core.rmem_max, enough for about 50 services.
const transactionBytes = 32 << 20

// programNftables replaces each family's table as a whole, in one transaction: a packet passes either the old rules or
// the new ones, and nothing has to find stale rules.
func programNftables(_ context.Context, families []family) error {
	return replaceTables(families, (*table).program)
}

// replaceTables replaces each family's table by what program makes, and removes that of an empty family.
func replaceTables(families []family, program func(*table)) error {
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(transactionBytes), c.SetWriteBuffer(transactionBytes))
	}))
	if err != nil {
		return fmt.Errorf("nftables: open netlink: %w", err)
	}
	for _, f := range families {
		t := newTable(conn, f)
		// Deleting a table that does not exist is an error; adding an existing one is not.
		conn.AddTable(t.table)
		conn.DelTable(t.table)
		if !f.isEmpty() {
			t.conn.AddTable(t.table)
			program(t)
		}
		if t.err != nil {
			return fmt.Errorf("nftables: %s: %w", ipVersion(f.ipv6), t.err)
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("nftables: %s: commit: %w", ipVersion(f.ipv6), err)
		}
	}
	return nil
}

// table collects the messages that make one family's table. Their order matters: a chain, set or map must exist before
// another object refers to it.
type table struct {
	family
	conn  *nftables.Conn
	table *nftables.Table
	err   error // the first one, of marshalling
}

func newTable(conn *nftables.Conn, f family) *table {
	t := &table{family: f, conn: conn, table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}}
	if f.ipv6 {
		t.table.Family = nftables.TableFamilyIPv6
	}
	return t
}

func (t *table) program() {
	for _, chain := range []string{
		servicesChain, masqueradingChain, rejectChain, clusterIPsCheck, serviceEndpointsCheck, nodePortCheck,
	} {
		t.chain(chain)
	}
	for _, p := range t.ports {
		t.portChains(p)
	}
	t.sets()
	t.maps()
	t.filterRules()
	t.natRules()
}

// sets makes the sets and their elements.
func (t *table) sets() {
	addr := t.addrType()
	var nodePortIPs [][]byte
	t.clusterIPs(clusterIPsSet)
	t.hairpins(hairpinSet)
	if t.restricted {
		for _, a := range t.nodePortAddresses {
			nodePortIPs = append(nodePortIPs, a.AsSlice())
		}
		t.set(nodePortIPsSet, nodePortIPs, addr)
	}
}

// clusterIPs makes a set of the services' addresses.
func (t *table) clusterIPs(name string) {
	var all [][]byte
	for _, p := range t.ports {
		all = append(all, p.clusterIP.AsSlice())
	}
	t.set(name, all, t.addrType())
}

// hairpins makes a set of the connections of endpoints to themselves. Those of an endpoint on another node do not pass
// this node.
func (t *table) hairpins(name string) {
	addr := t.addrType()
	var all [][]byte
	for _, p := range t.ports {
		for _, e := range p.endpoints {
			if e.Local {
				a := e.Address.AsSlice()
				all = append(all, concat(a, a, protocolNumber(p.protocol), portNumber(e.Port)))
			}
		}
	}
	t.set(name, all, addr, addr, nftables.TypeInetProto, nftables.TypeInetService)
}

// maps makes the maps from destinations to verdicts. The cluster IP of a service is in one of the first two, and its
// node port may be in both of the last two: connections from outside are dropped while the node itself is served.
func (t *table) maps() {
	var ips, noIPs, nodePorts, noNodePorts []nftables.SetElement
	for _, p := range t.ports {
		protocol := protocolNumber(p.protocol)
		ip := concat(p.clusterIP.AsSlice(), protocol, portNumber(p.port))
		nodePort := concat(protocol, portNumber(p.nodePort))
		reject := &expr.Verdict{Kind: expr.VerdictGoto, Chain: rejectChain}
		if len(p.endpoints) == 0 {
			noIPs = append(noIPs, element(ip, reject))
			if p.nodePort != 0 {
				noNodePorts = append(noNodePorts, element(nodePort, reject))
			}
			continue
		}
		ips = append(ips, element(ip, &expr.Verdict{Kind: expr.VerdictGoto, Chain: p.chain("service")}))
		if p.nodePort == 0 {
			continue
		}
		nodePorts = append(nodePorts, element(nodePort, &expr.Verdict{
			Kind: expr.VerdictGoto, Chain: p.chain("external"),
		}))
		if len(p.external()) == 0 {
			noNodePorts = append(noNodePorts, element(nodePort, &expr.Verdict{Kind: expr.VerdictDrop}))
		}
	}
	addr, protocol, port := t.addrType(), nftables.TypeInetProto, nftables.TypeInetService
	t.verdictMap(serviceIPsMap, ips, addr, protocol, port)
	t.verdictMap(noEndpointIPsMap, noIPs, addr, protocol, port)
	t.verdictMap(serviceNodePortsMap, nodePorts, protocol, port)
	t.verdictMap(noEndpointPortsMap, noNodePorts, protocol, port)
}

// filterRules refuses packets that were not translated because there is no endpoint.
func (t *table) filterRules() {
	input := t.baseChain("filter-input", nftables.ChainTypeFilter, nftables.ChainHookInput,
		nftables.ChainPriorityFilter)
	forward := t.baseChain("filter-forward", nftables.ChainTypeFilter, nftables.ChainHookForward,
		nftables.ChainPriorityFilter)
	output := t.baseChain("filter-output", nftables.ChainTypeFilter, nftables.ChainHookOutput,
		nftables.ChainPriorityFilter)

	isNew := ctState(expr.CtStateBitNEW)
	t.rule(input, isNew, jump(nodePortCheck))
	t.rule(input, isNew, jump(serviceEndpointsCheck))
	t.rule(forward, ctState(expr.CtStateBitINVALID), drop())
	for _, chain := range []*nftables.Chain{forward, output} {
		t.rule(chain, isNew, jump(serviceEndpointsCheck))
		t.rule(chain, isNew, jump(clusterIPsCheck))
	}
	t.rule(t.regular(rejectChain), t.reject())
	// Packets to existing services were translated long before, so packets that arrive here have another port.
	t.rule(t.regular(clusterIPsCheck), t.destination(1), inSet(clusterIPsSet), t.reject())
	t.rule(t.regular(serviceEndpointsCheck), t.service(), verdictOf(noEndpointIPsMap))
	t.rule(t.regular(nodePortCheck), t.nodeAddress(false), nodePort(), verdictOf(noEndpointPortsMap))
}

// natRules translates the destination to an endpoint and, if necessary, the source.
func (t *table) natRules() {
	for _, chain := range []*nftables.Chain{
		t.baseChain("nat-prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting,
			nftables.ChainPriorityNATDest),
		t.baseChain("nat-output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest),
	} {
		t.rule(chain, jump(servicesChain))
	}
	post := t.baseChain("nat-postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting,
		nftables.ChainPriorityNATSource)
	t.rule(post, jump(masqueradingChain))

	// The mark is removed after use: otherwise the packet would keep it when it passes the stack again.
	t.rule(t.regular(masqueradingChain), isMarked(), toggleMark(), masquerade())
	t.rule(t.regular(masqueradingChain), wasTranslated(), t.connection(), inSet(hairpinSet), masquerade())

	t.rule(t.regular(servicesChain), t.service(), verdictOf(serviceIPsMap))
	t.rule(t.regular(servicesChain), t.nodeAddress(true), nodePort(), verdictOf(serviceNodePortsMap))
	for _, p := range t.ports {
		t.portRules(p)
	}
}

// portChains makes the chains of a service that has endpoints.
func (t *table) portChains(p port) {
	if len(p.endpoints) == 0 {
		return
	}
	t.chain(p.chain("service"))
	if p.needsLocal() {
		t.chain(p.chain("local"))
	}
	if p.nodePort != 0 {
		t.chain(p.chain("external"))
	}
}

// portRules fills the chains of portChains.
func (t *table) portRules(p port) {
	if len(p.endpoints) == 0 {
		return
	}
	t.rule(t.regular(p.chain("service")), t.translate(p.protocol, p.endpoints))
	if p.needsLocal() {
		t.rule(t.regular(p.chain("local")), t.translate(p.protocol, p.local))
	}
	if p.nodePort == 0 {
		return
	}
	external := t.regular(p.chain("external"))
	if !p.localOnly {
		t.rule(external, setMark())
		t.rule(external, jumpTo(expr.VerdictGoto, p.chain("service")))
		return
	}
	// The node itself counts as inside the cluster. A pod of another node could not answer to its address.
	t.rule(external, addressIsLocal(true), setMark())
	t.rule(external, addressIsLocal(true), jumpTo(expr.VerdictGoto, p.chain("service")))
	if p.needsLocal() {
		t.rule(external, jumpTo(expr.VerdictGoto, p.chain("local")))
	}
}

// chain returns the name of the service's chain of a kind: kind-HASH-namespace/name/protocol/port.
func (p port) chain(kind string) string {
	name, portName, _ := strings.Cut(p.name, ":")
	base := name + "/" + p.protocol + "/" + portName
	return kind + "-" + hash(base, 8) + "-" + base
}

// translate chooses an endpoint at random and makes it the destination.
func (t *table) translate(protocol string, endpoints []Endpoint) []expr.Any {
	addr := t.addrType()
	value := t.keyType(addr, nftables.TypeInetService)
	// nft prints the keys as if they were big-endian, 16777216 for 1, since google/nftables declares that for every
	// anonymous set.
	choice := &nftables.Set{
		Table: t.table, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeInteger, DataType: value,
	}
	var elements []nftables.SetElement
	for i, e := range endpoints {
		elements = append(elements, nftables.SetElement{
			Key: native(uint32(i)),
			Val: concat(e.Address.AsSlice(), portNumber(e.Port)),
		})
	}
	t.addSet(choice, elements)
	family := uint32(unix.NFPROTO_IPV4)
	if t.ipv6 {
		family = unix.NFPROTO_IPV6
	}
	return slices.Concat(isProtocol(protocol), []expr.Any{
		&expr.Numgen{Register: 1, Modulus: uint32(len(endpoints)), Type: unix.NFT_NG_RANDOM},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetID: choice.ID, SetName: choice.Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1, RegProtoMin: register(addr.Bytes), Specified: true},
	})
}

// nodeAddress matches packets to an address that answers on node ports. Rules in an input hook need not check that the
// address belongs to the node.
func (t *table) nodeAddress(anyHook bool) []expr.Any {
	if t.restricted {
		return slices.Concat(t.destination(1), inSet(nodePortIPsSet))
	}
	notLoopback := []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: ipv4DestinationOffset, Len: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{127}},
	}
	if t.ipv6 {
		notLoopback = append(t.destination(1), &expr.Cmp{
			Op: expr.CmpOpNeq, Register: 1, Data: netip.IPv6Loopback().AsSlice(),
		})
	}
	if !anyHook {
		return notLoopback
	}
	return slices.Concat(addressIsLocal(false), notLoopback)
}
