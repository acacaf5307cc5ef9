package e2e_test

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// natPrograms are those by which plugins of upstream translate addresses: portmap, and main plugins with ipMasq, call
// iptables, and nft where that is missing.
var natPrograms = []string{"iptables", "nft"}

// failWithNAT is a failure that only a machine with one of natPrograms shows.
func failWithNAT(reason string) expected {
	return expected{result: report.Fail, reason: reason, oneOf: natPrograms}
}

// upstream returns working conflists of unmodified plugins, and the expected results of scenarios.
func upstream() []control {
	return []control{
		{name: "macvlan and route", chain: []string{macvlan, route}, want: with(passes(
			"cache-cleanup", "chain-tuning", "chain-tuning-mac", "cold-start-race", "del-one-keeps-others", "del-twice",
			"del-with-empty-cache-file",
			"del-without-cache", "del-without-netns", "external-to-pod", "full-mtu", "host-to-pod", "ip-reuse",
			"large-transfer",
			"late-del-of-old-attachment", "long-container-ids", "node-stays-reachable", "parallel-attach", "pod-churn",
			"pod-to-pod-across-nodes",
			"pod-to-pod-same-node", "reboot", "router-advertisements", "second-interface", "two-nic-node",
			"large-datagrams", "underlay-groups",
		), map[string]expected{
			"chain-bandwidth": known("bandwidth", "refuses a pod whose interface is a macvlan"),
			"chain-portmap":   {result: report.Pass, oneOf: natPrograms},

			"chain-portmap-udp":      {result: report.Pass, oneOf: natPrograms},
			"chain-portmap-udp-ends": {result: report.Pass, oneOf: natPrograms},
			"chain-sbr":              known("macvlan", "the CHECK of the main plugin looks for"),
		})},
		{
			name: "two families", chain: []string{strings.Replace(macvlan, pool, dualPool, 1), route},
			want: passes("external-to-pod", "host-to-pod", "two-nic-node"),
		},
		{
			name: "IPv6 alone", chain: []string{strings.Replace(macvlan, pool, ipv6Pool, 1), route},
			want: passes("host-to-pod", "ip-reuse", "pod-to-pod-across-nodes"),
		},
		{name: "a MAC by capability", chain: []string{asked, route}, want: passes("capabilities-asked", "host-to-pod")},
		{
			name: "leases", lease: shortLease, chain: []string{leased, route},
			want: with(passes("dhcp-renewed", "dhcp-daemon-starts-again", "dhcp-pool-exhausted", "dhcp-client-ids",
				"host-to-pod",
				"external-to-pod"),
				map[string]expected{"dhcp-daemon-restart": {result: report.KnownUpstream, reason: "only in memory"}}),
		},
		{
			name: "leases that outlive the daemon", lease: shortLease, chain: []string{leased, route},
			target: lasting("/run/cni/lasting"), want: passes("dhcp-daemon-restart"),
		},
		{name: "no addresses", chain: []string{layerTwo}, want: passes("pod-to-pod-same-node", "del-twice")},
		{name: "addresses by capability", chain: []string{brought, route}, want: passes("external-to-pod",
			"host-to-pod", "late-del-of-old-attachment", "pod-churn", "second-interface")},
		{name: "addresses by args.cni.ips", chain: []string{byArgs, route}, want: passes("external-to-pod",
			"pod-churn", "second-interface", "cache-cleanup")},
		{
			name: "a port by capability", chain: []string{macvlan, route, asking("maps-port")},
			want: passes("capabilities-asked", "ports-of-other-pods"),
		},
		{
			name: "a port by capability of portmap", chain: []string{macvlan, route, `{"type": "portmap", ` +
				`"capabilities": {"portMappings": true}, "snat": true}`},
			want: map[string]expected{"capabilities-asked": {result: report.Pass, oneOf: natPrograms}},
		},
		{name: "addresses by CNI_ARGS", chain: []string{broughtByArgs, route}, want: passes("del-twice", "host-to-pod")},
		{name: "no CHECK", more: `"disableCheck": true`, chain: []string{macvlan, route}, want: map[string]expected{
			// Users of sbr have to do this: no main plugin of upstream finds its routes in another table.
			"chain-sbr": pass(),
		}},
		{
			name: "bridge", profile: scenario.ProfileCNI, chain: []string{bridge},
			want: with(passes(append(behindNode(), "late-del-of-old-attachment")...), map[string]expected{
				// The pod's end of the veth is up before it has an address, so that the kernel does not announce the
				// address (Linux, net/ipv4/devinet.c: arp_notify acts on a device that comes up), and the node or
				// another pod keeps the former pod's MAC.
				"ip-reuse": fail(" to pod/second, icmp to 10.22."),
			}),
		},
		{
			name: "ptp", profile: scenario.ProfileCNI, chain: []string{ptp},
			want: with(passes(append(behindNode(), "cold-start-race", "ip-reuse", "reboot")...), map[string]expected{
				// Each interface of a pod has the same gateway and needs its own route to it.
				"second-interface": failOf("ptp", "file exists"),
			}),
		},
		{name: "ptp on a node in production", chain: []string{ptp}, want: inProduction()},
		{name: "route beside other agents", chain: []string{macvlan, route}, want: passes("other-agent-cleans")},
	}
}

// behindNode returns the scenarios that are passed by plugins which keep pods behind their node, to which everybody has
// a route.
//
// Some are left out. In cold-start-race and reboot, in which pods start at the same time, bridge's result sometimes has
// the MAC that its device had before further ports were added. second-interface passes on bridge only after the node
// has forgotten which of two interfaces on the same network answered for the other. With late-del-of-old-attachment,
// ptp mistakes a route over the former pod's veth for its own if the kernel has not removed it yet (plugins, main/ptp:
// setupHostVeth ignores EEXIST).
func behindNode() []string {
	return []string{
		"cache-cleanup", "chain-bandwidth", "chain-tuning", "chain-tuning-mac", "del-one-keeps-others", "del-twice",
		"del-with-empty-cache-file",
		"del-without-cache", "del-without-netns", "external-to-pod", "full-mtu", "host-to-pod", "large-transfer",
		"long-container-ids",
		"node-stays-reachable", "parallel-attach", "pod-churn", "pod-to-pod-across-nodes", "pod-to-pod-same-node",
		"router-advertisements", "two-nic-node",
	}
}

func passes(names ...string) map[string]expected {
	all := map[string]expected{}
	for _, name := range names {
		all[name] = pass()
	}
	return all
}

func with(all, more map[string]expected) map[string]expected {
	maps.Copy(all, more)
	return all
}

var everyUpstream = flag.Bool("every-upstream", false,
	"run each scenario on all of upstream's plugins that pass it, and not on the first alone")

// TestUpstream runs scenarios on plugins that work.
func TestUpstream(t *testing.T) {
	t.Parallel()
	all := slices.Concat(upstream(), hostile())
	passed := map[string]bool{}
	for _, c := range all {
		maps.DeleteFunc(c.want, func(name string, want expected) bool {
			again := want.result == report.Pass && passed[name]
			passed[name] = passed[name] || want.result == report.Pass
			return again && !*everyUpstream
		})
	}
	runControls(t, all)
}

// asking is a plugin at the end of the chain that declares the capability portMappings, with a fault.
func asking(fault string) string {
	return strings.Replace(broken(fault), "{", `{"capabilities": {"portMappings": true}, `, 1)
}
