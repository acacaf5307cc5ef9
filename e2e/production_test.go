package e2e_test

import "github.com/cnitest/cnitest/e2e/scenario"

// afterPtp returns a chain of ptp and a fault that changes how the node routes to its pods.
func afterPtp(fault string) []string { return []string{ptp, broken(fault)} }

// faultyInProduction returns at least one conflist that fails each scenario in which something happens to a node.
func faultyInProduction() []control {
	return []control{
		{name: "way-out-once", chain: afterPtp("way-out-once"), want: map[string]expected{
			"uplink-flaps": fail("after uplink-flaps CHECK finds nothing wrong with pod/left: probe tcp 8080 host/external"),
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
			"ruleset-flushed": fail("after ruleset-flushed CHECK finds nothing wrong with pod/left"),
			"sysctls-applied": fail("after sysctls-applied CHECK finds nothing wrong with pod/left"),
		}},
		{name: "a child without an address", chain: []string{macvlan, route}, want: map[string]expected{
			"strict-arp": failOf("route", "after strict-arp: the next ADD did not restore it: pod/left: CHECK: route: sysctl "+
				"ipv4.all.arp_ignore is 1"),
		}},
		{name: "pins-node-mac", chain: afterPtp("pins-node-mac"), want: map[string]expected{
			"macs-set": fail("after macs-set CHECK finds nothing wrong with pod/left"),
		}},
	}
}

// inProduction returns what a plugin passes that survives everything.
func inProduction() map[string]expected {
	return with(passes(
		"uplink-flaps", "uplink-addresses-change", "rules-and-routes-removed", "ruleset-flushed", "sysctls-applied",
		"strict-arp", "macs-set",
	), map[string]expected{"networkd-restarts": withNetworkd(pass())})
}

// withNetworkd returns what is expected where systemd-networkd is installed.
func withNetworkd(e expected) expected {
	kind, _ := scenario.EventNamed("networkd-restarts")
	e.oneOf = []string{kind.Program}
	return e
}
