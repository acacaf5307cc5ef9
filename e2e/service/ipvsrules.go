package service

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// The chains and sets of kube-proxy's mode ipvs, by the names of its iptables chains and ipsets; KUBE-POSTROUTING and
// KUBE-SERVICES are those of its mode iptables. A set of node ports has both protocols.
const (
	kubeNodePort   = "KUBE-NODE-PORT"
	kubeIPVSFilter = "KUBE-IPVS-FILTER"

	kubeClusterIPSet     = "KUBE-CLUSTER-IP"
	kubeIPVSIPsSet       = "KUBE-IPVS-IPS"
	kubeLoopBackSet      = "KUBE-LOOP-BACK"
	kubeNodePortSet      = "KUBE-NODE-PORT"
	kubeNodePortLocalSet = "KUBE-NODE-PORT-LOCAL"
)

// programIPVS makes the rules that go with the virtual servers: which connections are masqueraded, and that a cluster
// IP, which is an address of the node, leads to no other port of the node.
func (t *table) programIPVS() {
	for _, chain := range []string{kubeServices, kubeNodePort, kubePostrouting, kubeIPVSFilter} {
		t.chain(chain)
	}
	t.ipvsSets()
	input := t.baseChain("INPUT", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	t.rule(input, jump(kubeIPVSFilter))
	filter := t.regular(kubeIPVSFilter)
	t.rule(filter, t.service(), inSet(kubeClusterIPSet), leave())
	t.rule(filter, ctState(expr.CtStateBitNEW), t.destination(1), inSet(kubeIPVSIPsSet), t.reject())

	for name, hook := range map[string]*nftables.ChainHook{
		"PREROUTING": nftables.ChainHookPrerouting, "OUTPUT": nftables.ChainHookOutput,
	} {
		t.rule(t.baseChain(name, nftables.ChainTypeNAT, hook, nftables.ChainPriorityNATDest), jump(kubeServices))
	}
	services := t.regular(kubeServices)
	t.rule(services, t.fromLoopback(), leave())
	// The node asks a cluster IP from that address, which endpoints elsewhere could not answer.
	t.rule(services, t.serviceSource(), inSet(kubeClusterIPSet), setMark())
	t.rule(services, addressIsLocal(false), jump(kubeNodePort))
	ports := t.regular(kubeNodePort)
	t.rule(ports, nodePort(), inSet(kubeNodePortLocalSet), leave())
	t.rule(ports, nodePort(), inSet(kubeNodePortSet), setMark())

	post := t.baseChain("POSTROUTING", nftables.ChainTypeNAT, nftables.ChainHookPostrouting,
		nftables.ChainPriorityNATSource)
	t.rule(post, jump(kubePostrouting))
	t.rule(t.regular(kubePostrouting), t.connection(), inSet(kubeLoopBackSet), masquerade())
	t.rule(t.regular(kubePostrouting), isMarked(), toggleMark(), masquerade())
}

func (t *table) ipvsSets() {
	var clusterIPs, nodePorts, local [][]byte
	for _, p := range t.ports {
		protocol := protocolNumber(p.protocol)
		clusterIPs = append(clusterIPs, concat(p.clusterIP.AsSlice(), protocol, portNumber(p.port)))
		if p.nodePort == 0 {
			continue
		}
		nodePorts = append(nodePorts, concat(protocol, portNumber(p.nodePort)))
		if p.localOnly {
			local = append(local, concat(protocol, portNumber(p.nodePort)))
		}
	}
	protocol, port := nftables.TypeInetProto, nftables.TypeInetService
	t.set(kubeClusterIPSet, clusterIPs, t.addrType(), protocol, port)
	t.set(kubeNodePortSet, nodePorts, protocol, port)
	t.set(kubeNodePortLocalSet, local, protocol, port)
	t.clusterIPs(kubeIPVSIPsSet)
	t.hairpins(kubeLoopBackSet)
}

// serviceSource loads the key of kubeClusterIPSet with the source in place of the destination.
func (t *table) serviceSource() []expr.Any {
	n := t.addrType().Bytes
	return slices.Concat(t.source(1), transport(register(n), register(n+4)))
}

func (t *table) fromLoopback() []expr.Any {
	if t.ipv6 {
		loopback := &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: netip.IPv6Loopback().AsSlice()}
		return append(t.source(1), loopback)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: ipv4SourceOffset, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{127}},
	}
}

// leave returns from a chain.
func leave() []expr.Any { return jumpTo(expr.VerdictReturn, "") }
