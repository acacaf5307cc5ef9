package service

import (
	"fmt"
	"net/netip"
	"strings"
)

// Chains of the iptables dataplane, and prefixes of the names of a service's chains, as in kube-proxy.
const (
	kubeServices         = "KUBE-SERVICES"
	kubeExternalServices = "KUBE-EXTERNAL-SERVICES"
	kubeNodePorts        = "KUBE-NODEPORTS"
	kubeForward          = "KUBE-FORWARD"
	kubePostrouting      = "KUBE-POSTROUTING"
	kubeMarkMasq         = "KUBE-MARK-MASQ"

	serviceChain  = "KUBE-SVC-"
	localChain    = "KUBE-SVL-"
	externalChain = "KUBE-EXT-"
	endpointChain = "KUBE-SEP-"
)

// ruleset contains the rules of one family, by the name of the iptables table.
type ruleset map[string]rules

// rules contains our rules of one table. A rule begins with the name of its chain.
type rules struct {
	chains []string
	// jumps lead from the kernel's chains to ours; each is inserted before the existing rules.
	jumps []string
	rules []string
}

func (r rules) isEmpty() bool { return len(r.chains)+len(r.jumps) == 0 }

func (r *rules) chain(name string) string {
	r.chains = append(r.chains, name)
	return name
}

func (r *rules) add(format string, args ...any) {
	r.rules = append(r.rules, fmt.Sprintf(format, args...))
}

// newRuleset returns kube-proxy's rules for f, which has services, in the form of iptables-save.
func newRuleset(f family) ruleset {
	filter := rules{
		chains: []string{kubeServices, kubeExternalServices, kubeForward},
		jumps: []string{
			jumpRule("INPUT", "-m conntrack --ctstate NEW", "kubernetes externally-visible service portals",
				kubeExternalServices),
			jumpRule("FORWARD", "-m conntrack --ctstate NEW", "kubernetes externally-visible service portals",
				kubeExternalServices),
			jumpRule("FORWARD", "-m conntrack --ctstate NEW", "kubernetes service portals", kubeServices),
			jumpRule("OUTPUT", "-m conntrack --ctstate NEW", "kubernetes service portals", kubeServices),
			jumpRule("FORWARD", "", "kubernetes forwarding rules", kubeForward),
		},
	}
	nat := rules{
		chains: []string{kubeServices, kubeNodePorts, kubePostrouting, kubeMarkMasq},
		jumps: []string{
			jumpRule("OUTPUT", "", "kubernetes service portals", kubeServices),
			jumpRule("PREROUTING", "", "kubernetes service portals", kubeServices),
			jumpRule("POSTROUTING", "", "kubernetes postrouting rules", kubePostrouting),
		},
	}
	// Set the bit, and clear it after use: otherwise the packet would keep it when it passes the stack again.
	nat.add("%s -j MARK --set-xmark %#x/%#[2]x", kubeMarkMasq, masqueradeMark)
	nat.add("%s -m mark ! --mark %#x/%#[2]x -j RETURN", kubePostrouting, masqueradeMark)
	nat.add("%s -j MARK --set-xmark %#x/0x0", kubePostrouting, masqueradeMark)
	nat.add(`%s -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`,
		kubePostrouting)
	for _, p := range f.ports {
		p.addFilter(&filter)
		p.addNAT(&nat)
	}
	nat.addNodePorts(f)
	filter.add("%s -m conntrack --ctstate INVALID -j DROP", kubeForward)
	filter.add(`%s -m comment --comment "kubernetes forwarding rules" -m mark --mark %#x/%#[2]x -j ACCEPT`, kubeForward,
		masqueradeMark)
	filter.add(`%s -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate `+
		`RELATED,ESTABLISHED -j ACCEPT`,
		kubeForward)
	return ruleset{"filter": filter, "nat": nat}
}

// host returns the prefix of a single address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func jumpRule(from, match, comment, to string) string {
	parts := []string{from}
	if match != "" {
		parts = append(parts, match)
	}
	return strings.Join(append(parts, fmt.Sprintf("-m comment --comment %q -j %s", comment, to)), " ")
}

// addNodePorts sends packets that match no cluster IP to the node ports.
func (r *rules) addNodePorts(f family) {
	const comment = `-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this ` +
		`chain"`
	if f.restricted {
		for _, a := range f.nodePortAddresses {
			r.add("%s -d %s %s -j %s", kubeServices, host(a), comment, kubeNodePorts)
		}
		return
	}
	loopback := "127.0.0.0/8"
	if f.ipv6 {
		loopback = "::1/128"
	}
	r.add("%s ! -d %s %s -m addrtype --dst-type LOCAL -j %s", kubeServices, loopback, comment, kubeNodePorts)
}

// addFilter refuses or drops packets for which the service has no endpoints.
func (p port) addFilter(r *rules) {
	target, reason := "REJECT --reject-with icmp-port-unreachable", "has no endpoints"
	if p.clusterIP.Is6() {
		target = "REJECT --reject-with icmp6-port-unreachable"
	}
	if len(p.endpoints) > 0 {
		target, reason = "DROP", "has no local endpoints"
	} else {
		r.add(`%s -d %s -p %s -m comment --comment "%s %s" -m %[3]s --dport %[6]d -j %[7]s`,
			kubeServices, host(p.clusterIP), p.protocol, p.name, reason, p.port, target)
	}
	if p.nodePort != 0 && len(p.external()) == 0 {
		r.add(`%s -p %s -m comment --comment "%s %s" -m addrtype --dst-type LOCAL -m %[2]s --dport %[5]d -j %[6]s`,
			kubeExternalServices, p.protocol, p.name, reason, p.nodePort, target)
	}
}

// addNAT adds rules that lead to the endpoints of the service.
func (p port) addNAT(r *rules) {
	if len(p.endpoints) == 0 {
		return
	}
	service := r.chain(p.iptablesChain(serviceChain))
	r.add(`%s -d %s -p %s -m comment --comment "%s cluster IP" -m %[3]s --dport %[5]d -j %[6]s`,
		kubeServices, host(p.clusterIP), p.protocol, p.name, p.port, service)
	p.addChoice(r, service, p.endpoints)
	if p.needsLocal() {
		p.addChoice(r, r.chain(p.iptablesChain(localChain)), p.local)
	}
	if p.nodePort != 0 {
		p.addExternal(r, service)
	}
	for _, e := range p.endpoints {
		chain := r.chain(p.endpointChain(e))
		r.add(`%s -s %s -m comment --comment %q -j %s`, chain, host(e.Address), p.name, kubeMarkMasq)
		r.add(`%s -p %s -m comment --comment %q -m %[2]s -j DNAT --to-destination %[4]s`, chain, p.protocol, p.name, e)
	}
}

// addChoice gives each endpoint the same probability: of n remaining ones, the next one gets the nth part.
func (p port) addChoice(r *rules, chain string, endpoints []Endpoint) {
	for i, e := range endpoints {
		chance := ""
		if left := len(endpoints) - i; left > 1 {
			chance = fmt.Sprintf(" -m statistic --mode random --probability %.11f", 1/float64(left))
		}
		r.add(`%s -m comment --comment "%s -> %s"%s -j %s`, chain, p.name, e, chance, p.endpointChain(e))
	}
}

// addExternal leads from the node port to the endpoints for clients from outside.
func (p port) addExternal(r *rules, service string) {
	external := r.chain(p.iptablesChain(externalChain))
	r.add(`%s -p %s -m comment --comment %q -m %[2]s --dport %[4]d -j %[5]s`, kubeNodePorts, p.protocol, p.name,
		p.nodePort, external)
	if !p.localOnly {
		r.add(`%s -m comment --comment "masquerade traffic for %s external destinations" -j %s`, external, p.name,
			kubeMarkMasq)
		r.add("%s -j %s", external, service)
		return
	}
	// As in the nftables dataplane: the node itself can reach all endpoints, and uses its own address.
	r.add(`%s -m comment --comment "masquerade LOCAL traffic for %s external destinations" -m addrtype --src-type `+
		`LOCAL -j %s`,
		external, p.name, kubeMarkMasq)
	r.add(`%s -m comment --comment "route LOCAL traffic for %s external destinations" -m addrtype --src-type LOCAL `+
		`-j %s`,
		external, p.name, service)
	if p.needsLocal() {
		r.add("%s -j %s", external, p.iptablesChain(localChain))
	}
}

func (p port) iptablesChain(prefix string) string {
	return prefix + hash(p.name+p.protocol, 16)
}

func (p port) endpointChain(e Endpoint) string {
	return endpointChain + hash(p.name+p.protocol+e.String(), 16)
}
