package e2e_test

import (
	"strings"
	"testing"
)

const (
	vethToHost = `{"type": "veth-to-host", "hostInterface": "eno1", "containerInterface": "veth0", "ipMasq": true}`
	// portmap translates for pods that request it, which none here does; it then calls no program.
	portmap = `{"type": "portmap", "capabilities": {"portMappings": true}}`
)

// services returns conflists with which services work, or do not, and the expected results of scenarios.
func services() []control {
	noReply := func(from, to, address, port string) string {
		return from + " to " + to + ", tcp to " + address + " port " + port + ": connect: no reply within 1s; "
	}
	// pastNode returns the result of a request to a cluster address that did not pass the node.
	pastNode := func(from string) expected {
		return fail("the request was last seen entering eth0 of host/router; " +
			"10.96.0.10 left " + from + " by eth0, a macvlan on the underlay, past its node and the proxy there that " +
			"knows the service")
	}
	// around returns the result of a reply that did not pass the node which translated the request.
	around := func(pod string) string {
		return "the request was last seen entering eth0 of " + pod +
			", a reply was last seen entering eth0 of host/external; the reply has the source "
	}
	hidden := fail("saw 192.0.2.2 (node/a) as the source, want an address of pod/client")
	macvlan, bridge, ptp := rangePerNode(macvlan), rangePerNode(bridge), rangePerNode(ptp)
	return []control{
		{name: "macvlan and veth-to-host", chain: []string{macvlan, vethToHost}, want: with(passes(podToService()...),
			passes(
				"mixed-networks", "node-port-cluster", "node-port-local", "pod-to-apiserver",
				"pod-to-node-local-address", "redirect-in-pod",
				"service-endpoints-replaced", "service-range-stays-home", "services-under-forward-drop",
				"services-after-flush", "services-under-rp-filter",
				"services-with-50-pods", "services-with-two-nics",
			))},
		{name: "bridge and portmap, a range per node", chain: []string{bridge, portmap}, want: passes(podToService()...)},
		{name: "ptp and portmap, a range per node", chain: []string{ptp, portmap}, want: passes(podToService()...)},
		// Machines beyond the node see only the node's address.
		{
			name: "ptp that masquerades", chain: []string{
				strings.Replace(ptp, `"ptp"`, `"ptp", "ipMasq": true`, 1), portmap,
			}, oneOf: natPrograms,
			want: map[string]expected{
				"pod-to-service-hairpin":               pass(),
				"pod-to-service-host-network-endpoint": hidden,
				"pod-to-service-off-subnet":            hidden,
				"pod-to-service-remote-endpoint":       hidden,
				"pod-to-service-same-node-endpoint":    pass(),
			},
		},
		{name: "macvlan, a range per node", chain: []string{macvlan}, want: map[string]expected{
			"pod-to-apiserver": pastNode("pod/operator"),
			"pod-to-node-local-address": fail("eth0 of pod/client is a macvlan on eno1, and the kernel " +
				"keeps such a device and its parent apart"),
			"pod-to-service-host-network-endpoint": pastNode("pod/client"),
			"pod-to-service-remote-endpoint":       pastNode("pod/client"),
			"pod-to-service-several-endpoints":     pastNode("pod/client"),
		}},
		{name: "macvlan and route, a range per node", chain: []string{macvlan, route}, want: map[string]expected{
			"node-port-local": fail(noReply("host/external", "node/a", "192.168.0.2",
				"30080") + around("pod/on-a")),
			"pod-to-service-off-subnet":         pastNode("pod/client"),
			"pod-to-service-remote-endpoint":    pastNode("pod/client"),
			"pod-to-service-same-node-endpoint": pastNode("pod/client"),
		}},
		{name: "keeps-clients after route", chain: afterRoute("keeps-clients"), want: map[string]expected{
			"node-port-cluster": fail(noReply("host/external", "node/a", "192.168.0.2",
				"30080") + around("pod/server")),
		}},
		{name: "keeps-clients", chain: afterVethToHost("keeps-clients"), want: map[string]expected{
			"pod-to-service-hairpin": fail(noReply("pod/server", "service/web", "10.96.0.10", "80")),
		}},
		{name: "first-nic", chain: afterVethToHost("first-nic"), want: map[string]expected{
			"services-with-two-nics": fail(noReply("host/external", "node/a", "192.168.0.2", "30081")),
		}},
		{name: "no-address", chain: afterVethToHost("no-address"), want: map[string]expected{
			"redirect-in-pod": fail(`the request was last seen entering veth0 of pod/meshed, and no reply left ` +
				`pod/meshed; pod/meshed dropped the request: ` +
				`rule "meta l4proto tcp th dport 8080 redirect to port 15006" of the nftables chain "inet ` +
				`cnitest-lab redirect", which needs an address on that interface`),
		}},
		{name: "forgets-way-in", chain: afterVethToHost("forgets-way-in"), want: map[string]expected{
			"mixed-networks": fail(noReply("pod/far", "pod/full", "192.168.1.2", "8080") +
				"the request was last seen entering eth0 of pod/full, a reply was last seen"),
		}},
		{name: "unmarked-way-back", chain: afterVethToHost("unmarked-way-back"), want: map[string]expected{
			"services-under-rp-filter": fail(noReply("host/external", "node/strict", "192.168.0.3", "30081") +
				"the request was last seen entering eno1 of node/strict"),
		}},
		{name: "few-tables", chain: afterVethToHost("few-tables"), want: map[string]expected{
			"services-with-50-pods": fail("to service/far, tcp to 10.96.0.11 port 80: connect: no reply within 1s"),
		}},
		{name: "mirrors", chain: afterVethToHost("mirrors"), want: map[string]expected{
			"service-range-stays-home": fail("packets to service/web, want at most 0; the first: "),
		}},
		{name: "empties-forward", chain: afterVethToHost("empties-forward"), want: map[string]expected{
			"services-under-forward-drop": fail(noReply("pod/client", "service/near", "10.96.0.10", "80")),
		}},
		{name: "own-proxy", chain: afterVethToHost("own-proxy"), want: map[string]expected{
			"service-endpoints-replaced": fail("flow pod/client to service/dns 10.96.0.10 had no reply for "),
		}},
	}
}

// podToService returns the scenarios with a pod and a cluster address.
func podToService() []string {
	return []string{
		"pod-to-service-hairpin", "pod-to-service-host-network-endpoint", "pod-to-service-off-subnet",
		"pod-to-service-remote-endpoint",
		"pod-to-service-same-node-endpoint", "pod-to-service-several-endpoints",
	}
}

// afterVethToHost returns a chain that passes everything, with one fault added at its end.
func afterVethToHost(fault string) []string { return []string{macvlan, vethToHost, broken(fault)} }

// rangePerNode returns a configuration in which each node has its own range, as administrators write them, instead of a
// share of one range.
//
// A bridge does not send a packet back out of the port on which it arrived, unless it is configured to. If bridged
// packets pass netfilter (br_netfilter), a pod that reaches itself through a service is translated there.
func rangePerNode(plugin string) string {
	return strings.NewReplacer(
		`"bridge",`, `"bridge", "hairpinMode": true,`, "10.22.0.0/16", "10.22.${NODE_INDEX}.0/24", "10.23.0.0/16",
		"10.23.${NODE_INDEX}.0/24",
		"192.168.1.", "192.168.${NODE_INDEX}.",
	).Replace(plugin)
}

// TestServices runs scenarios on conflists with which services work in different ways, or do not work.
func TestServices(t *testing.T) {
	t.Parallel()
	runControls(t, shareFaults(t, services()))
}
