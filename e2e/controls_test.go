package e2e_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
	"github.com/cnitest/cnitest/scenarios"
)

// control is a conflist and the expected results of scenarios.
type control struct {
	name       string
	chain      []string
	brokenIPAM bool
	// more are further keys of the conflist.
	more string
	// profile is the profile of the options. Features beyond it are claimed, so that all scenarios run.
	profile scenario.Profile
	// target describes what the nodes run besides the plugins. Its conflist has CNI 1.1.0, which has STATUS and GC.
	target *target.Target
	// old are the programs of an earlier version: by name, that of the binary; nil means that there is none.
	old map[string]string
	// oldChain are the plugins in the conflist of that version; nil means that it is the same.
	oldChain []string
	// lease is the duration of leases of the lab's DHCP server; 0 means the default.
	lease time.Duration
	// oneOf are programs of the machine, one of which the chain needs. Without any the control is skipped.
	oneOf []string
	want  map[string]expected
}

// shortLease is long enough for a daemon on a busy machine to renew it in time.
const shortLease = 10 * time.Second

// afterRoute returns a chain that passes everything, with one fault added at its end.
func afterRoute(fault string) []string { return []string{macvlan, route, broken(fault)} }

// faulty returns at least one conflist that fails each scenario, except for the scenarios of services. TestUpstream
// adds those that fail on upstream's plugins.
func faulty() []control {
	const takesRoute = "one of its calls changed what route had made: - route 192.168."
	const kept = "the kernel keeps such a device and its parent apart"
	const panicked = "panic: runtime error: invalid memory address or nil pointer dereference"
	return []control{
		{name: "the naive plugin", chain: []string{macvlan, naive}, want: map[string]expected{
			"del-without-cache":         failOf("naive-route", panicked),
			"del-with-empty-cache-file": failOf("naive-route", panicked),
			"del-twice":                 failOf("naive-route", panicked),
			"node-stays-reachable":      fail("the address of eno1.host (macvlan), want"),
			"two-nic-node":              fail("no reply within 1s"),
			"router-advertisements":     fail("node/a: addresses and default-routes changed: + address 2001:db8:5:"),
		}},
		{
			name: "the naive plugin on two families", chain: []string{
				strings.Replace(macvlan, pool, dualPool, 1), naive,
			},
			want: map[string]expected{
				"host-to-pod": fail("node/a to pod/server, tcp to fd00:20::"),
			},
		},
		{name: "a masquerading node", chain: []string{bridge, broken("masquerades")}, want: map[string]expected{
			"external-to-pod":         fail("(node/a) as the source, want an address of host/lan"),
			"pod-to-pod-across-nodes": fail("(node/b) as the source, want an address of pod/near"),
		}},
		{name: "no default route", chain: []string{
			strings.Replace(macvlan, `, "routes": [{"dst": "0.0.0.0/0"}]`, "", 1), route,
		}, want: map[string]expected{
			"external-to-pod": fail("host/external to pod/server, tcp to 192.168.1.2 port 8080"),
		}},
		{name: "macvlans kept apart", chain: []string{
			strings.Replace(macvlan, `"macvlan"`, `"macvlan", "mode": "private"`, 1),
		}, want: map[string]expected{
			"pod-to-pod-same-node": fail("pod/left to pod/right, tcp to 192.168.1.3 port 8080: connect: no reply"),
		}},
		{name: "frames that do not pass", chain: []string{
			strings.Replace(layerTwo, `"macvlan"`, `"macvlan", "mode": "private"`, 1),
		}, want: map[string]expected{
			"pod-to-pod-same-node": fail("pod/left to pod/right, tcp to 192.0.2.5 port 8080: connect: no reply"),
		}},
		{name: "an MTU larger than that of the way", chain: []string{
			strings.Replace(ptp, `"ptp"`, `"ptp", "mtu": 9000`, 1),
		}, want: map[string]expected{
			"full-mtu": fail("send: message too long"),
		}},
		{name: "drops-tcp", chain: afterRoute("drops-tcp"), want: map[string]expected{
			"pod-to-pod-same-node": fail("pod/left to pod/right, tcp to 192.168.1.3 port 8080"),
		}},
		{name: "drops-large", chain: afterRoute("drops-large"), want: map[string]expected{
			"full-mtu": fail("node/a to pod/left, icmp"),
		}},
		{name: "drops-incoming", chain: afterRoute("drops-incoming"), want: map[string]expected{
			"host-to-pod": fail("node/a to pod/server, tcp to 192.168.1.2 port 8080"),
		}},
		{name: "drops-outgoing", chain: afterRoute("drops-outgoing"), want: map[string]expected{
			"host-to-pod": fail("pod/server to node/a, tcp to"),
		}},
		{name: "drops-ipv6", chain: []string{dual(macvlan), route, broken("drops-ipv6")}, want: map[string]expected{
			"pod-to-pod-same-node": fail("pod/left to pod/right, tcp to fd00:20::"),
		}},
		{name: "drops-udp", chain: afterRoute("drops-udp"), want: map[string]expected{
			"host-to-pod":          fail("node/a to pod/server, udp to 192.168.1.2 port 8080"),
			"pod-to-pod-same-node": fail(", udp to 192.168.1."),
		}},
		{name: "drops-fragments", chain: afterRoute("drops-fragments"), want: map[string]expected{
			"large-datagrams": fail("node/a to pod/left, udp to 192.168.1.2 port 8080"), "host-to-pod": pass(),
		}},
		{name: "refused-check", chain: afterRoute("refused-check"), want: map[string]expected{
			"chain-tuning": failOf("broken", "; the kernel refused RTM_DELLINK link#99999: ENODEV"),
		}},
		{name: "refused-del", chain: afterRoute("refused-del"), want: map[string]expected{
			"del-twice": failOf("broken", "; the kernel refused RTM_DELLINK link#99999: ENODEV"),
		}},
		{name: "removes-pod-default", chain: afterRoute("removes-pod-default"), want: map[string]expected{
			"chain-tuning": failOf("broken", "broken caused it: everything is right with macvlan + route"),
		}},
		{name: "removes-pod-link", chain: afterRoute("removes-pod-link"), want: map[string]expected{
			"cache-cleanup": failOf("broken", "broken caused it: everything is right with macvlan + route alone"),
		}},
		{name: "removes-pod-link, and no address is free", chain: []string{
			strings.Replace(macvlan, "192.168.1.254", "192.168.1.9", 1), route, broken("removes-pod-link"),
		}, want: map[string]expected{
			"parallel-attach": failOf("broken", "broken caused it: everything is right with macvlan + route alone"),
		}},
		{name: "no-address", chain: afterRoute("no-address"), want: map[string]expected{
			"cache-cleanup": failOf("broken", "to eth0, which has ["),
		}},
		{name: "loses", chain: afterRoute("loses"), want: map[string]expected{
			"pod-churn": fail(" requests, want at most 0"),
		}},
		{name: "drops-groups", chain: afterRoute("drops-groups"), want: map[string]expected{
			"underlay-groups": fail("pod/server does not answer what host/lan sends to 192.168.255.255 of the " +
				"underlay by broadcast"), "host-to-pod": pass(),
		}},
		{name: "lowers-ttl", chain: afterRoute("lowers-ttl"), want: map[string]expected{
			"external-to-pod": fail("host/external"), "host-to-pod": pass(),
		}},
		{name: "breaks-others", chain: afterRoute("breaks-others"), want: map[string]expected{
			"full-mtu": fail("node/a to pod/left, icmp"),
		}},
		{name: "own-result", chain: afterRoute("own-result"), want: map[string]expected{
			"chain-tuning": failOf("broken", "broken caused it: everything is right with macvlan + route"),
		}},
		{name: "wrong-address", chain: afterRoute("wrong-address"), want: map[string]expected{
			"cache-cleanup": failOf(
				"broken",
				"pod/web: the result gives 192.168.1.130 to eth0, which has [192.168.1.2/16]",
			),
		}},
		{name: "prints-text", chain: afterRoute("prints-text"), want: map[string]expected{
			"chain-bandwidth": failOf("broken", "invalid character 'a' looking for beginning of value"),
		}},
		// The plugin is not one of upstream's, for which this is known.
		{
			name: "a main plugin that checks the main table", chain: []string{wrapped("strict-check")},
			want: map[string]expected{
				"chain-sbr": failOf("broken", "Failed to find Gateway 192.168.0.1 for interface eth0"),
			},
		},
		{name: "removes-shared", chain: afterRoute("removes-shared"), want: map[string]expected{
			"del-one-keeps-others": failOf("broken", "one of its calls changed what route had made: - "),
		}},
		// DEL goes from the last plugin to the first: route has nothing left to restore what this one breaks.
		{name: "by-address", chain: []string{macvlan, broken("by-address"), route}, want: map[string]expected{
			"late-del-of-old-attachment": failOf("broken", takesRoute),
		}},
		{name: "by-pod-name", chain: []string{macvlan, broken("by-pod-name"), route}, want: map[string]expected{
			"late-del-of-old-attachment": failOf("broken", takesRoute),
		}},
		{name: "short-id", chain: afterRoute("short-id"), want: map[string]expected{
			"long-container-ids": failOf("broken", "file exists"),
		}},
		{name: "races", chain: afterRoute("races"), want: map[string]expected{
			"cold-start-race": failOf("broken", "file exists"),
		}},
		{name: "flaps", chain: afterRoute("flaps"), want: map[string]expected{
			"pod-churn": fail("want at most 0"),
		}},
		{name: "silent", chain: []string{macvlan, broken("silent"), route}, want: map[string]expected{
			"ip-reuse": fail("pod/sibling to pod/second, icmp to 192.168.1.3"),
		}},
		{name: "stalls", chain: afterRoute("stalls"), want: map[string]expected{
			"large-transfer": fail("32MiB each way"),
		}},
		{
			name: "first-mac", chain: []string{wrapped("first-mac"), route, broken("first-mac")},
			want: map[string]expected{
				"chain-tuning-mac": failOf("broken", "one of its calls changed what route had made: ~ neighbour "),
			},
		},
		{name: "no way from the node", chain: []string{macvlan}, want: map[string]expected{
			"host-to-pod":       fail("eth0 of pod/server is a macvlan on eno1, and " + kept),
			"chain-portmap":     failWithNAT("probe tcp 8081"),
			"chain-portmap-udp": failWithNAT("flow node/a"),
			"chain-sbr":         known("macvlan", "the CHECK of the main plugin looks for"),
		}},
		{
			name: "another address than the runtime's", chain: []string{brought, broken("moves-address")},
			want: map[string]expected{
				"pod-to-pod-same-node": failOf("broken", "pod/left: ips asks for the address 192.168.0."),
			},
		},
		{
			name: "another address than that of args.cni.ips", chain: []string{byArgs, broken("moves-address")},
			want: map[string]expected{
				"pod-to-pod-same-node": failOf("broken", "pod/left: args.cni.ips asks for the address 10.23.0."),
			},
		},
		{
			name: "a port that nobody forwards", chain: []string{macvlan, route, asking("keeps-lock")},
			want: map[string]expected{
				"capabilities-asked": fail("the capability portMappings asks for port 8080 of the node"),
			},
		},
		{name: "a port taken from others", chain: []string{ptp, asking("takes-port")}, want: map[string]expected{
			"ports-of-other-pods": fail("pod/asking answered, want pod/other"),
		}},
		{name: "a port that a gone pod keeps", chain: afterRoute("keeps-port"), want: map[string]expected{
			"chain-portmap-udp-ends": failWithNAT("flow node/a"),
		}},
		{
			name: "another address than that of CNI_ARGS", chain: []string{broughtByArgs, broken("moves-address")},
			want: map[string]expected{
				"pod-to-pod-same-node": failOf("broken", "pod/left: CNI_ARGS asks for the address 192.168.0."),
			},
		},
		{
			name: "another MAC than the one that was asked for", chain: []string{asked, broken("silent")},
			want: map[string]expected{
				"capabilities-asked": failOf("broken", "pod/asking: the capability mac asks for 02:63:"),
			},
		},
		{name: "an allocator without a lock", brokenIPAM: true, chain: withIPAM("no-lock"), want: map[string]expected{
			"parallel-attach": fail("pods failed, the first one with: pod/crowd-"),
		}},
		{
			name: "an allocator that knows containers only", brokenIPAM: true, chain: withIPAM("per-container"),
			want: map[string]expected{
				"second-interface": failOf("macvlan", "host-local: Failed to find address added by container"),
			},
		},
		{
			name: "an allocator that needs the namespace", brokenIPAM: true, chain: withIPAM("needs-netns"),
			want: map[string]expected{
				"del-without-netns": fail(
					"pod/named: [192.168.1.2] still reserved for it in /var/lib/cni/networks/net"),
				"reboot": failOf("macvlan", "no IP addresses available"),
			},
		},
		{name: "host-device", chain: []string{hostDevice}, want: map[string]expected{
			"device-comes-back": fail(`eno2: state was UP and is DOWN, alias was "port 0 of the lab" and is none`),
		}},
		{name: "returns-devices", chain: []string{returning("returns-devices")}, want: map[string]expected{
			// Each pod gets its own device.
			"device-comes-back": pass(), "pod-to-pod-same-node": pass(), "host-to-pod": pass(),
		}},
		{name: "keeps-mtu", chain: []string{returning("keeps-mtu")}, want: map[string]expected{
			"device-comes-back": fail("eno2: mtu was 1500 and is 1280"),
		}},
		{name: "keeps-promiscuity", chain: []string{returning("keeps-promiscuity")}, want: map[string]expected{
			"device-comes-back": fail("eno2: promiscuity was none and is 1"),
		}},
		{name: "loses-altname", chain: []string{returning("loses-altname")}, want: map[string]expected{
			"device-comes-back": fail("eno2: altname was enp9s0 and is none"),
		}},
		// A network of the pod harms another one.
		{name: "takes-first-down", chain: []string{macvlan, broken("takes-first-down")}, want: map[string]expected{
			"several-networks": fail("CHECK: ptp: Failed to find Gateway 10.244.0.1 for interface eth0"),
		}},
		{
			name: "collects-all", chain: []string{macvlan, broken("collects-all")},
			more: `"cniVersions": ["1.0.0", "1.1.0"]`,
			want: map[string]expected{"several-networks-gc": fail("probe tcp 8080 pod/plain → pod/web")},
		},
		{name: "a default route beside another", chain: []string{macvlan}, want: map[string]expected{
			"several-networks":               pass(),
			"several-networks-default-route": fail("as the source, want the address of pod/web on eth0"),
			"several-networks-replies":       fail("filter of pod/web (rp_filter 1 on eth0) dropped it"),
			"several-networks-half-way":      pass(),
		}},
		{name: "a default route by source", chain: []string{macvlan, `{"type": "sbr"}`}, want: map[string]expected{
			"several-networks-default-route": pass(), "several-networks-replies": pass(), "several-networks-gc": pass(),
			"several-networks-half-way": failOf("sbr", "DEL: sbr: unknown FS magic"),
		}},
		{name: "an allocator that keeps", brokenIPAM: true, chain: withIPAM("keeps"), want: map[string]expected{
			"several-networks-half-way": fail("pod/web: [192.168.1.2] still reserved for it"),
			"cache-cleanup": fail("pod/web: [192.168.1.2] still reserved for it in " +
				"/var/lib/cni/networks/net"),
		}},
	}
}

// TestControls runs scenarios on conflists each of which breaks what the scenarios are about.
func TestControls(t *testing.T) {
	t.Parallel()
	runControls(t, sharedOut(t, slices.Concat(faulty(), faultyLeases(), faultyInProduction(), faultyHostile())))
}

// TestControls_are_complete checks that for each shipped scenario there is a conflist that fails it, and one that
// passes it.
func TestControls_are_complete(t *testing.T) {
	all, err := scenario.Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	passed, failed := map[string]bool{}, map[string]bool{}
	for _, c := range slices.Concat(
		faulty(), faultyLeases(), faultyInProduction(), faultyHostile(), upstream(), hostile(), services(), daemons(),
		clouds(), upgrades(),
	) {
		for name, want := range c.want {
			passed[name] = passed[name] || want.result == report.Pass
			failed[name] = failed[name] || want.result == report.Fail
		}
	}
	for _, s := range all {
		if !failed[s.Name] {
			t.Errorf("scenario %s: no control fails it; add one to faulty or services, with a fault of "+
				"broken/chained if need be", s.Name)
		}
		if !passed[s.Name] {
			t.Errorf("scenario %s: no control passes it; add one to upstream or services", s.Name)
		}
		delete(passed, s.Name)
	}
	for name := range passed {
		t.Errorf("control of scenario %q: there is no such scenario", name)
	}
}

// shareFaults returns all conflists of which nothing is expected to fail, and a share of the others.
func shareFaults(t *testing.T, all []control) []control {
	t.Helper()
	var sound, faulty []control
	for _, c := range all {
		fails := false
		for _, want := range c.want {
			fails = fails || want.result == report.Fail
		}
		if fails {
			faulty = append(faulty, c)
		} else {
			sound = append(sound, c)
		}
	}
	return append(sound, sharedOut(t, faulty)...)
}

// runControls runs the scenarios of all conflists, side by side, and compares the results.
func runControls(t *testing.T, controls []control) {
	b := plugins(t)
	var wait sync.WaitGroup
	results := make([]map[string]report.Result, len(controls))
	for i, c := range controls {
		if missesProgram(c.oneOf) || !isChosen(c.name, "") {
			continue
		}
		options := e2e.Options{
			Conflist: writeConflist(t, c.more, c.chain...), BinDir: b.plugins, Profile: c.profile,
			Claims: scenario.Features(), Target: c.target,
			Nodes: e2e.Nodes{Lease: c.lease},
		}
		if c.target != nil {
			setVersion(t, options.Conflist, "1.1.0")
		}
		if c.old != nil {
			options.OldBinDir = oldPrograms(t, b, c.old)
		}
		if c.oldChain != nil {
			options.Target = &target.Target{OldConflist: writeConflist(t, c.more, c.oldChain...)}
		}
		if c.brokenIPAM {
			options.BinDir = b.brokenIPAM
		}
		suite := newSuite(t, options)
		results[i] = map[string]report.Result{}
		var mu sync.Mutex
		for _, s := range suite.Scenarios() {
			if _, wanted := c.want[s.Name]; !wanted || !isChosen(c.name, s.Name) {
				continue
			}
			wait.Go(func() {
				defer enterLab()()
				result := suite.RunScenarioWanting(context.Background(), s, c.want[s.Name].matches)
				mu.Lock()
				defer mu.Unlock()
				results[i][s.Name] = result
			})
		}
	}
	wait.Wait()
	for i, c := range controls {
		for name, want := range c.want {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				if missesProgram(c.oneOf) {
					t.Skipf("the chain calls %s, and none is installed", strings.Join(c.oneOf, " or "))
				}
				want.compare(t, results[i][name])
			})
		}
	}
}

// isChosen reports whether -test.run chooses a scenario of a control, or any of them if it is empty. Others need no
// labs.
func isChosen(control, ofScenario string) bool {
	patterns, found := chosenSubtest()
	if !found {
		return true
	}
	names := []string{control, ofScenario}
	for i, pattern := range strings.SplitN(patterns, "/", len(names)) {
		chosen, err := regexp.MatchString(pattern, strings.ReplaceAll(names[i], " ", "_"))
		if !chosen && err == nil && names[i] != "" { // package testing reports what is wrong with a pattern
			return false
		}
	}
	return true
}
