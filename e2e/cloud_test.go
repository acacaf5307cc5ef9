package e2e_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

const routedENI = `{"type": "routed-eni"}`

// ipamd returns a target with that daemon, which queries the cloud each second unless its arguments say otherwise.
func ipamd(cloud target.Cloud, args ...string) *target.Target {
	command := append([]string{
		"ipamd", "--reconcile", "1s", "--cooling", "100ms", "--external-snat", "--cloud", "describe",
		"--ec2-endpoint", metadata.Endpoint,
	}, args...)
	return &target.Target{Cloud: &cloud, Daemon: &target.Daemon{
		Name: "ipamd", Command: command, Variants: map[string][]string{
			scenario.NodeSNAT:    append(command[:len(command):len(command)], "--external-snat=false"),
			scenario.LongCooling: append(command[:len(command):len(command)], "--cooling", "6s"),
		}, Ready: target.Ready{Socket: "/run/ipamd/ipamd.sock"}, Owns: []string{"/run/ipamd", "/var/lib/ipamd"},
	}}
}

// plenty returns a cloud in which no scenario runs out of addresses by accident.
func plenty() target.Cloud { return target.Cloud{ENIs: 3, Addresses: 4, Prefixes: 1} }

// withIPv6 returns a cloud whose nodes have an IPv6 prefix, too.
func withIPv6() target.Cloud { return target.Cloud{Addresses: 4, IPv6Prefix: true} }

// unvaried returns an ipamd whose variants are all the same.
func unvaried(args ...string) *target.Target {
	t := ipamd(plenty(), args...)
	for name := range t.Daemon.Variants {
		t.Daemon.Variants[name] = t.Daemon.Command
	}
	return t
}

// forgetful returns an ipamd that keeps no state.
func forgetful() *target.Target {
	t := ipamd(target.Cloud{Addresses: 12})
	t.Daemon.Command = []string{
		"sh", "-c", "rm -f /var/lib/ipamd/state.json; exec /opt/cni/bin/ipamd --reconcile 1s --cooling 0s",
	}
	return t
}

// bystander returns a daemon that no plugin uses.
func bystander(cloud *target.Cloud) *target.Target {
	return &target.Target{Cloud: cloud, Daemon: &target.Daemon{
		Name: "bystander", Command: []string{"sh", "-c", "touch /run/bystander; exec sleep 1000"},
		Ready: target.Ready{File: "/run/bystander"}, Owns: []string{"/run/bystander"},
	}}
}

// crashing returns a daemon that ends some time after it was ready.
func crashing() *target.Target {
	t := bystander(nil)
	t.Daemon.Command = []string{"sh", "-c", "touch /run/bystander; sleep 1; echo out of luck"}
	return t
}

// ledger returns a chain whose first plugin has a daemon of its own, and its target, with a fault of the daemon.
func ledger(fault string) ([]string, *target.Target) {
	return []string{strings.Replace(ptp, `"type": "ptp"`, `"type": "ledger", "delegate": "ptp"`, 1)}, &target.Target{
		Daemon: &target.Daemon{
			Name: "ledger", Command: []string{"ledger", "daemon", fault}, Ready: target.Ready{Socket: "/run/ledger/ledger.sock"},
			Owns: []string{"/run/ledger", "/var/lib/ledger"},
		},
	}
}

// withLedger returns what is expected of that chain.
func withLedger(name, fault string, want map[string]expected) control {
	c := control{name: name, want: want}
	c.chain, c.target = ledger(fault)
	return c
}

// daemons returns conflists whose plugin has a daemon, and the expected results of scenarios.
func daemons() []control {
	return []control{
		{name: "ipamd", chain: []string{routedENI}, target: ipamd(plenty()), want: map[string]expected{
			"daemon-restart": pass(), "daemon-down-at-add": pass(), "daemon-down-at-del": pass(),
			"daemon-hangs":             pass(),
			"daemon-dies-before-reply": pass(), "daemon-address-cooling": pass(),
			"daemon-late-add": pass(), "daemon-late-del": pass(), "hostile-reaches-daemon": pass(),
		}},
		withLedger("another daemon", "", passes("daemon-restart", "daemon-down-at-add", "daemon-down-at-del",
			"daemon-hangs", "daemon-dies-before-reply", "daemon-late-add", "daemon-late-del",
			"hostile-reaches-daemon")),
		withLedger("a daemon that listens everywhere", "open-port", map[string]expected{
			"hostile-reaches-daemon": fail("pod/evil reaches the daemon ledger of node/a at 10.23.0.1:7979"),
		}),
		withLedger("a daemon that listens to datagrams", "open-datagrams", map[string]expected{
			"hostile-reaches-daemon": fail("pod/evil reaches the daemon ledger of node/a at 10.23.0.1:7979 over UDP"),
		}),
		withLedger("a daemon with UDP sockets that no pod reaches", "only-clients", passes("hostile-reaches-daemon")),
		withLedger("a daemon that every user may ask", "open-socket", map[string]expected{
			"hostile-reaches-daemon": fail("/run/ledger/ledger.sock keeps a connection of the user nobody"),
		}),
		withLedger("a daemon whose state every user may change", "open-file", map[string]expected{
			"hostile-reaches-daemon": fail("every user may change what the daemon ledger keeps: /var/lib/ledger/state.json"),
		}),
		withLedger("a daemon that knows pods by their names", "by-pod-name", map[string]expected{
			"daemon-late-del": fail("pod/extra: ADD gave 10.23.0.2, which pod/new has"),
		}),
		withLedger("a daemon that never collects", "never-collects", map[string]expected{
			"daemon-late-add": failOf("ledger", "no free address from"), "daemon-late-del": pass(),
		}),
		{name: "a plugin without GC", chain: []string{
			`{"type": "broken", "delegate": "routed-eni", "fault": "keeps-lock"}`,
		}, target: ipamd(target.Cloud{Addresses: 5}, "--cooling", "0s"), want: map[string]expected{
			"daemon-dies-before-reply": failOf("broken", "add pod/server"),
			"daemon-late-add":          failOf("broken", "add pod/other"),
		}},
		{
			name: "a daemon without a rest", chain: []string{routedENI}, target: unvaried("--cooling", "0s"),
			want: map[string]expected{
				"daemon-address-cooling": fail("it succeeded, want an error with code 11"),
			},
		},
		{name: "a daemon that forgets", chain: []string{routedENI}, target: forgetful(), want: map[string]expected{
			"daemon-restart": fail("ADD gave 10.0.0."),
		}},
		{
			name: "a daemon that never gives an address again", chain: []string{routedENI},
			target: ipamd(target.Cloud{Addresses: 5}, "--cooling", "1h"), want: map[string]expected{
				"daemon-down-at-del": failOf("routed-eni", "add pod/gone"),
			},
		},
		{
			name: "a plugin that does not ask", chain: []string{macvlan, route}, target: bystander(nil),
			want: map[string]expected{
				"daemon-down-at-add":       fail("it succeeded, want an error with code 11"),
				"daemon-dies-before-reply": {result: report.NotClaimed, reason: "the target names no socket and no files of its daemon"},
				"daemon-address-cooling":   {result: report.NotClaimed, reason: "the target has no variant long-cooling of its daemon"},
				"daemon-hangs":             fail("it succeeded, want an error with code 11"),
			},
		},
		{
			name: "a daemon that ends by itself", chain: []string{macvlan, route}, target: crashing(),
			want: map[string]expected{
				"pod-churn": fail("node/a: daemon bystander ended by itself: out of luck"),
			},
		},
	}
}

// clouds returns conflists in a cloud, and the expected results of scenarios.
func clouds() []control {
	return []control{
		{name: "a cloud", chain: []string{routedENI}, target: ipamd(plenty()), want: map[string]expected{
			"cloud-own-eni": pass(), "cloud-eni-added": pass(), "cloud-pool-exhausted": pass(),
			"cloud-address-removed": pass(), "cloud-unmanaged-enis": pass(),
			"cloud-external-snat": pass(), "external-to-pod": pass(), "reboot": pass(), "mixed-networks": pass(),
			"late-del-of-old-attachment": {result: report.NotApplicable, reason: "no plugin of the chain has an IPAM plugin"},
			"node-stays-reachable":       {result: report.NotApplicable, reason: "nobody sees the MAC addresses of others"},
		}},
		{
			name: "a node that translates", chain: []string{routedENI}, target: ipamd(plenty(),
				"--external-snat=false"),
			want: map[string]expected{
				"external-to-pod": fail("host/external saw 10.0.0.2 (node/a) as the source, want an address of " +
					"pod/server"),
			},
		},
		{
			name: "a node that never translates", chain: []string{routedENI}, target: unvaried(),
			want: map[string]expected{
				"cloud-external-snat": fail("(pod/old-"),
			},
		},
		{name: "a cloud that nobody set the node up for", chain: []string{routedENI}, target: ipamd(plenty(),
			"--kernel=false"), want: map[string]expected{
			"cloud-own-eni": fail("the request was last seen entering port-0-0"),
		}},
		{name: "a daemon that takes each ENI for its own", chain: []string{routedENI}, target: ipamd(plenty(),
			"--cloud", "metadata"), want: map[string]expected{
			"cloud-unmanaged-enis": fail("probe tcp 9090 host/lan → node/a"),
		}},
		{name: "a daemon that gives pods all there is", chain: []string{routedENI}, target: ipamd(plenty(),
			"--cloud", "metadata", "--kernel=false"), want: map[string]expected{
			"cloud-unmanaged-enis": fail("it succeeded, want an error with code 11"),
		}},
		{name: "a daemon that looks at the cloud once", chain: []string{routedENI}, target: ipamd(plenty(),
			"--reconcile", "1h"), want: map[string]expected{
			"cloud-eni-added": failOf("routed-eni", "status node/a, within 10s"),
		}},
		{
			name: "a plugin with addresses of its own", chain: []string{ptp},
			target: bystander(&target.Cloud{Addresses: 9}), want: map[string]expected{
				"cloud-pool-exhausted": failOf("ptp", "want 11"),
			},
		},
		{
			name: "a daemon that forgets in a cloud", chain: []string{routedENI}, target: forgetful(),
			want: map[string]expected{
				"cloud-address-removed": fail("ADD gave 10.0.0."),
			},
		},
		{name: "no target", chain: []string{macvlan, route}, want: map[string]expected{
			"daemon-restart": {result: report.Skipped, reason: "no target file names a daemon"},
			"cloud-own-eni":  {result: report.Skipped, reason: "no target file asks for a cloud"},
		}},
	}
}

func TestDaemons(t *testing.T) {
	t.Parallel()
	runControls(t, shareFaults(t, daemons()))
}

func TestClouds(t *testing.T) {
	t.Parallel()
	runControls(t, shareFaults(t, clouds()))
}

// Scenarios that need a target do not make the verdict of a run without a target incomplete.
func TestTarget_features_are_in_no_profile(t *testing.T) {
	for _, p := range scenario.Profiles() {
		for _, f := range p.Features() {
			if f == scenario.DaemonRestart || f == scenario.CloudENIs {
				t.Errorf("profile %s demands %s, want it claimed by a target", p, f)
			}
		}
	}
}

// setVersion changes the version of a conflist.
func setVersion(t *testing.T, path, version string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(`"1.0.0"`), []byte(`"`+version+`"`), 1),
		0o644); err != nil {
		t.Fatal(err)
	}
}
