package e2e_test

import (
	"path/filepath"

	"github.com/cnitest/cnitest/e2e/lab/debian"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// afterPtp returns a chain of ptp and a fault that changes how the node routes to its pods.
func afterPtp(fault string) []string { return []string{ptp, broken(fault)} }

// faultyInProduction returns at least one conflist that fails each scenario in which something happens to a node.
func faultyInProduction() []control {
	return []control{
		{name: "way-out-once", chain: afterPtp("way-out-once"), want: map[string]expected{
			"uplink-flaps": fail("after uplink-flaps CHECK finds nothing wrong with pod/left: probe tcp 8080 host/external"),
		}},
		{name: "ports-once", chain: afterPtp("ports-once"), want: map[string]expected{
			"bond-port-replaced":   withBonds(fail("after bond-port-replaced CHECK finds nothing wrong with pod/left")),
			"bridge-port-replaced": fail("after bridge-port-replaced CHECK finds nothing wrong with pod/left"),
		}},
		{name: "uplink-source", chain: afterPtp("uplink-source"), want: map[string]expected{
			"uplink-addresses-change": fail("after uplink-addresses-change CHECK finds nothing wrong with pod/left: probe"),
		}},
		{name: "rule-once", chain: afterPtp("rule-once"), want: map[string]expected{
			"rules-and-routes-removed": fail("after rules-and-routes-removed CHECK finds nothing wrong with pod/left"),
			"networkd-restarts":        withNetworkd(fail("after networkd-restarts CHECK finds nothing wrong")),
		}},
		{name: "rule-checked", chain: afterPtp("rule-checked"), want: map[string]expected{
			"rules-and-routes-removed": failOf("broken", "after rules-and-routes-removed: the next ADD did not "+
				"restore it: pod/left: CHECK: broken: the rule for the pods' table is missing"),
		}},
		{name: "rule-twice", chain: afterPtp("rule-twice"), want: map[string]expected{
			"rules-and-routes-removed": failOf("broken", "was restored twice or is left over"),
		}},
		{name: "mark-once", chain: afterPtp("mark-once"), want: map[string]expected{
			"ruleset-flushed":      fail("after ruleset-flushed CHECK finds nothing wrong with pod/left"),
			"sysctls-applied":      fail("after sysctls-applied CHECK finds nothing wrong with pod/left"),
			"services-after-flush": fail("after ruleset-flushed CHECK finds nothing wrong with pod/left"),
		}},
		{name: "iptables-once", chain: afterPtp("iptables-once"), want: map[string]expected{
			"iptables-flushed": fail("after iptables-flushed CHECK finds nothing wrong with pod/left"),
			"firewalld-reloads": unpacked("firewalld-reloads",
				fail("after firewalld-reloads CHECK finds nothing wrong")),
		}},
		{name: "accepts-in-ufw", chain: afterPtp("accepts-in-ufw"), want: map[string]expected{
			"ufw-reloads": unpacked("ufw-reloads", fail("after ufw-reloads CHECK finds nothing wrong with pod/left")),
		}},
		{name: "unlistable", chain: afterPtp("unlistable"), want: map[string]expected{
			"ruleset-listed": unpacked("ruleset-listed", failOf("broken", "netlink_parse_concat_expr: Assertion")),
		}},
		{name: "ptp among other agents", chain: []string{ptp}, want: map[string]expected{
			"other-agent-cleans": fail("after other-agent-cleans CHECK finds nothing wrong with pod/left"),
		}},
		{name: "a child without an address", chain: []string{macvlan, route}, want: map[string]expected{
			"strict-arp": failOf("route", "after strict-arp: the next ADD did not restore it: pod/left: CHECK: route: sysctl "+
				"ipv4.all.arp_ignore is 1"),
		}},
		{name: "pins-node-mac", chain: []string{macvlan, broken("pins-node-mac")}, want: map[string]expected{
			"macs-set":       fail("after macs-set CHECK finds nothing wrong with pod/left"),
			"udev-triggered": unpacked("udev-triggered", fail("after udev-triggered CHECK finds nothing wrong")),
			"networkmanager-restarts": unpacked("networkmanager-restarts", // which runs beside udev
				fail("after networkmanager-restarts CHECK finds nothing wrong")),
		}},
	}
}

// inProduction returns what a plugin passes that survives everything.
func inProduction() map[string]expected {
	all := with(passes(
		"uplink-flaps", "uplink-addresses-change", "rules-and-routes-removed", "ruleset-flushed", "sysctls-applied",
		"strict-arp", "macs-set", "iptables-flushed", "bridge-port-replaced",
	), map[string]expected{
		"networkd-restarts": withNetworkd(pass()), "bond-port-replaced": withBonds(pass()),
	})
	for _, name := range []string{
		"udev-triggered", "networkmanager-restarts", "firewalld-reloads", "ufw-reloads", "ruleset-listed",
	} {
		all[name] = unpacked(name, pass())
	}
	return all
}

// unpacked returns what is expected where the program of an event is unpacked.
func unpacked(event string, e expected) expected {
	kind, _ := scenario.EventNamed(event)
	e.oneOf, e.without = []string{filepath.Join(debian.Dir(), kind.Program)}, "nodes have no "+kind.Package
	return e
}

// withBonds returns what is expected where the kernel has bonds.
func withBonds(e expected) expected {
	e.link = "bond"
	return e
}

// withNetworkd returns what is expected where systemd-networkd is installed.
func withNetworkd(e expected) expected {
	kind, _ := scenario.EventNamed("networkd-restarts")
	e.oneOf, e.without = []string{kind.Program}, "it has no "+kind.Program
	return e
}
