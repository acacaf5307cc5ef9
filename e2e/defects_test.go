package e2e_test

import "slices"

// spoiled returns all broken plugins of the contract.
func spoiled() []spoilt {
	return slices.Concat(badAnswers(), badResults(), badDeletes(), badChecks(), badStatus(), badCollections(),
		badDelegates(), badFailures(), badSuccessors(), badUnasked(), badPace(), badSentences())
}

// badAnswers returns defects of versions, environment, exit status and output.
func badAnswers() []spoilt {
	return []spoilt{
		{
			plugin: "route@1", chain: []string{macvlan, `{"type": "route@1", "master": "eno1", "bridge": "eno1.host"}`},
			fails: map[string]string{
				"CFG-2": `type "route@1": want letters`,
			},
		},
		{plugin: "route", chain: []string{
			macvlan, `{"type": "route", "master": "eno1", "bridge": "eno1.host", "args": {}}`,
		}, fails: map[string]string{
			"CFG-5": `the conflist gives route the key "args"`,
		}},
		{plugin: "route", defect: "refuses-keys-with-any-code", fails: map[string]string{
			"CFG-7": "ADD with an unknown key: want success or code 2, got exit status 1, code 999",
		}},
		{
			plugin: "route",
			defect: "refuses-keys-without-name",
			fails:  map[string]string{"ERR-2": "want the key and its value"},
		},
		{plugin: "route", defect: "fails-at-0.3.1", versions: "0.3.0 0.3.1 1.1.0", fails: map[string]string{
			"VER-2": "the configuration works at CNI 0.3.0 and not at 0.3.1",
			"VER-4": "version 0.3.1 was forgotten",
			"ADD-2": "ADD: exit status 1, code 100: version 0.3.1 was forgotten",
		}},
		{
			plugin: "route",
			defect: "answers-another-version",
			fails:  map[string]string{"VER-3": `answers cniVersion "0.1.0"`},
		},
		{
			plugin: "macvlan",
			defect: "takes-any-version",
			fails:  map[string]string{"VER-5": "ADD with cniVersion 9.9.9: want code 1, got exit status 0"},
		},
		{
			plugin: "route",
			defect: "calls-environment-config",
			fails:  map[string]string{"ENV-2": "want code 4, got exit status 1, code 7"},
		},
		{
			plugin: "macvlan",
			defect: "names-no-variable",
			fails:  map[string]string{"ENV-2": "ADD with CNI_CONTAINERID missing: the message does not name"},
		},
		{
			plugin: "macvlan",
			defect: "mends-names",
			fails:  map[string]string{"ENV-3": "ADD with the interface name eth/0 succeeds, want an error"},
		},
		{
			plugin: "route",
			defect: "needs-args",
			fails:  map[string]string{"ENV-4": "ADD without CNI_ARGS: want success"},
		},
		{plugin: "route", defect: "strict-args", fails: map[string]string{"ENV-4": "key CNITEST_STRANGE is not known"}},
		{plugin: "route", defect: "needs-netns-in-del", fails: map[string]string{
			"ENV-4": "DEL without CNI_NETNS: want success", "DEL-5": "DEL with CNI_NETNS empty: want success",
		}},
		{plugin: "route", defect: "error-with-status-0", fails: map[string]string{
			"EXE-1": "answers an error object and exits with 0", "VER-5": "ADD with cniVersion 9.9.9: want code 1",
		}, through: []string{"VER-5"}},
		{plugin: "route", defect: "result-with-status-1", versions: "0.3.1 1.1.0", fails: map[string]string{
			"EXE-1": "ADD answers a result and exits with 1",
		}, also: []string{"EXE-2", "ADD-2", "VER-4"}},
		{plugin: "route", defect: "panics-without-prevresult", fails: map[string]string{
			"G11": "want an error object on stdout, got exit status 2", "EXE-1": "ADD does not end by itself",
			"EXE-2": "ADD fails without an error object on stdout",
		}},
		{
			plugin: "route", defect: "error-as-text",
			fails:   map[string]string{"EXE-2": "fails without an error object on stdout"},
			also:    []string{"ERR-3", "VER-5", "ENV-2", "ENV-4", "F06", "F07", "G11", "STA-1"},
			through: []string{"ERR-3"},
		},
		{
			plugin: "route",
			defect: "talks-in-del",
			fails:  map[string]string{"EXE-3": `DEL prints something other than a JSON object on stdout: "deleted"`},
		},
		{
			plugin: "macvlan",
			defect: "prints-result-in-check",
			fails:  map[string]string{"EXE-3": "CHECK prints 2 documents on stdout, want one"},
		},
		{plugin: "route", defect: "logs-before-result", fails: map[string]string{
			"EXE-3": `ADD prints something other than a JSON object on stdout: "level=info msg=attached"`,
			"ADD-2": "prints no JSON document",
		}, also: []string{"VER-4", "CHK-6", "GC-1", "ENV-4", "DEL-3"}},
		{
			plugin:  "route",
			defect:  "holds-stdout",
			fails:   map[string]string{"E12": "STATUS left a process behind that holds"},
			through: []string{"STA-3"},
		},
		{
			plugin:  "macvlan",
			defect:  "reserved-code",
			fails:   map[string]string{"ERR-1": "fails with code 42"},
			through: []string{"ADD-5"},
		},
		{plugin: "route", defect: "calls-decoding-internal", fails: map[string]string{
			"ERR-3": "ADD with half an object: want code 6, got exit status 1, code 999",
		}},
		{
			plugin: "macvlan",
			defect: "calls-config-internal",
			fails:  map[string]string{"ERR-3": "ADD with no name: want code 7, got exit status 1, code 999"},
		},
	}
}

// badResults returns defects of ADD.
func badResults() []spoilt {
	repaired := []string{"DLG-1"} // the plugin gets another prevResult than the wrapper
	return []spoilt{
		{plugin: "macvlan", defect: "forgets-dns", fails: map[string]string{
			"CFG-6": "the configuration has dns with the name server 192.0.2.53, and the result has []",
		}},
		{
			plugin: "route",
			defect: "does-nothing",
			fails:  map[string]string{"ADD-1": "ADD succeeds and changes nothing"},
			also:   []string{"CHK-1"},
		},
		{plugin: "route", defect: "changes-nothing-but-the-result", fails: map[string]string{
			"ADD-4": "its result is not equal to prevResult", "ADD-1": "ADD succeeds and changes nothing",
		}, also: []string{"CHK-1"}},
		{plugin: "macvlan", defect: "unknown-key", fails: map[string]string{"ADD-2": `unknown field "attached"`}},
		{
			plugin: "macvlan", defect: "keys-of-another-version", versions: "0.2.0 1.1.0",
			fails: map[string]string{
				"ADD-2": `the result of ADD is not one of CNI 0.2.0: json: unknown field "interfaces"`,
			},
		},
		{plugin: "macvlan", defect: "forgets-family", versions: "0.4.0 1.1.0", fails: map[string]string{
			"ADD-2": `the result of ADD is not one of CNI 0.4.0: the address 192.168.1.2/16 has no version, which is "4"`,
		}},
		{plugin: "host-local", defect: "mistakes-family", versions: "0.3.1 1.1.0", fails: map[string]string{
			"ADD-2": `the address 192.168.1.2/16 has the version 6, want "4"`,
		}},
		{plugin: "macvlan", defect: "keeps-family", versions: "0.4.0 1.0.0", fails: map[string]string{
			"ADD-2": "the result of ADD is not one of CNI 1.0.0: the address 192.168.1.2/16 has the key version",
		}},
		{plugin: "macvlan", defect: "routes-of-its-own", fails: map[string]string{
			"ADD-2": `the route to 0.0.0.0/0 has the key "via", which routes do not have`,
		}},
		{
			plugin: "host-local",
			defect: "no-addresses",
			fails:  map[string]string{"ADD-2": "ADD succeeds and gives no address"},
		},
		{
			plugin: "route",
			defect: "forgets-routes",
			fails:  map[string]string{"ADD-3": "prevResult has the route to 0.0.0.0/0, and the result has not"},
		},
		{plugin: "route", defect: "forgets-interfaces", fails: map[string]string{
			"ADD-3": "prevResult has the interface eth0 with sandbox",
		}, also: []string{"RES-2"}},
		{
			plugin: "macvlan",
			defect: "takes-the-name",
			fails:  map[string]string{"ADD-5": "ADD where the pod has an interface eth0 succeeds, want an error"},
		},
		{
			plugin: "route",
			defect: "old-version",
			fails:  map[string]string{"RES-1": `its result has cniVersion "1.0.0"`},
		},
		{plugin: "route", defect: "hides-node-links", fails: map[string]string{
			"RES-2": "ADD makes the interface eno1.host on the node, and the result does not list it",
		}},
		{
			plugin: "macvlan",
			defect: "no-sandbox",
			also:   repaired,
			fails:  map[string]string{"RES-2": "and the result does not list it with sandbox"},
		},
		{
			plugin: "macvlan",
			defect: "wrong-mac",
			also:   repaired,
			fails:  map[string]string{"RES-3": "the result gives eth0 the MAC"},
		},
		{
			plugin: "macvlan",
			defect: "wrong-mtu",
			also:   repaired,
			fails:  map[string]string{"RES-3": "the result gives eth0 the MTU 1400, and it has 1500"},
		},
		{plugin: "macvlan", defect: "wrong-address", also: repaired, fails: map[string]string{
			"RES-3": "the result gives eth0 the address 192.168.1.3/16, and it has [192.168.1.2/16",
		}},
		{plugin: "macvlan", defect: "wrong-gateway", fails: map[string]string{
			"RES-3": "the gateway 203.0.113.1 of the address 192.168.1.2/16 is not in its network",
		}},
		{
			plugin: "macvlan",
			defect: "wrong-index",
			also:   repaired,
			fails:  map[string]string{"RES-3": "is of interface 7 of the result, which has 1"},
		},
		{plugin: "macvlan", defect: "says-a-route", also: repaired, fails: map[string]string{
			"RES-4": "the result has the route 203.0.113.0/24 via 192.168.0.1, and the pod has not",
		}},
		{
			plugin: "host-local",
			defect: "ipam-names-an-interface",
			fails:  map[string]string{"RES-5": "names interface 0, want none"},
		},
	}
}

// badDelegates returns defects of cooperation between plugins.
func badDelegates() []spoilt {
	tuned := []string{macvlan, `{"type": "tuning"}`}
	idle := []string{"ADD-1", "CHK-1", "F06", "EXE-2", "EXE-3"} // upstream's tuning with nothing to tune
	return []spoilt{
		{plugin: "macvlan", defect: "keeps-args-to-itself", fails: map[string]string{
			"DLG-1": `ADD: the delegated plugin gets CNI_ARGS="IgnoreUnknown=1", want`,
		}},
		{
			plugin: "macvlan",
			defect: "keeps-keys-to-itself",
			fails:  map[string]string{"DLG-1": "the delegated plugin does not get"},
		},
		{
			plugin: "macvlan", defect: "first-directory", also: []string{"F01", "F04", "H05"},
			fails: map[string]string{"DLG-2": "in the second directory of CNI_PATH: want success"},
		},
		{
			plugin: "macvlan",
			defect: "drops-stderr",
			fails:  map[string]string{"DLG-2": "ADD does not pass the standard error of the delegated plugin on"},
		},
		{
			plugin: "macvlan",
			defect: "swallows-error-of-del",
			fails:  map[string]string{"DLG-3": "DEL succeeds although the plugin that it delegates to failed"},
		},
		{
			plugin: "macvlan", defect: "rolls-back-alone", also: []string{"DLG-6"},
			fails: map[string]string{"DLG-4": "and does not call its DEL"},
		},
		{plugin: "route", defect: "one-at-a-time", fails: map[string]string{"LIF-1": "another ADD is running"}},
		{
			plugin: "host-local", defect: "shares-addresses", may: []string{"CHK-6", "STA-1"},
			fails: map[string]string{"LIF-1": "ADD of 16 pods at once gives 192.168.1."},
		},
		{
			plugin: "tuning",
			defect: "knows-macvlan",
			chain:  tuned,
			may:    idle,
			fails:  map[string]string{"CHN-1": "eth0: want a macvlan"},
		},
		{
			plugin: "host-local",
			defect: "follows-args",
			fails:  map[string]string{"ARG-1": "although args.cni.ips asks for"},
		},
	}
}

// badFailures returns defects that cause failure modes.
func badFailures() []spoilt {
	return []spoilt{
		{
			plugin: "macvlan",
			defect: "moves-default-route",
			fails:  map[string]string{"A07": "ADD of a second interface: ~ first route default"},
		},
		{
			plugin: "macvlan",
			defect: "stale-neighbour",
			also:   []string{"CHK-4"},
			fails:  map[string]string{"A08": "has a MAC that no link has"},
		},
		{
			plugin: "macvlan", defect: "overlooks-duplicates", chain: []string{dual(macvlan), route},
			fails: map[string]string{"I02": "ADD succeeds, and the kernel found the pod's address fd00:"},
		},
		{plugin: "macvlan", defect: "keeps-duplicates", fails: map[string]string{
			"C03": "ADD found its address in use, fails, and leaves + file /var/lib/cni/networks/net/192.168.1.2",
		}},
		{plugin: "macvlan", defect: "litters-when-busy", fails: map[string]string{
			"C04": "ADD on the port of a bridge fails and leaves + file /var/lib/broken",
		}},
		{
			plugin: "macvlan",
			defect: "litters-on-mac",
			fails:  map[string]string{"C05": "fails and leaves + file /var/lib/broken"},
		},
		{
			plugin: "macvlan",
			defect: "shrinks-uplink",
			fails:  map[string]string{"C07": "ADD changes the MTU of eno1 from 1500 to 1400"},
		},
		{plugin: "macvlan", defect: "keeps-address-on-failure", fails: map[string]string{
			"D07":   "with one address in the pool, after an ADD that failed and its DEL, ADD: want success",
			"ADD-5": "fails and leaves something: + file /var/lib/cni/networks",
		}},
		{plugin: "macvlan", defect: "keeps-one-family", chain: []string{dual(macvlan), route}, fails: map[string]string{
			"D08": "ADD with no IPv6 address left fails and leaves + file /var/lib/cni/networks/net/192.168.1.99",
		}},
		{plugin: "macvlan", defect: "keeps-link-on-failure", fails: map[string]string{
			"F01": "ADD fails since its IPAM plugin did, and leaves + first link eth0",
			"F04": "ADD after two that failed, when its IPAM plugin works again: want success",
		}},
		{plugin: "macvlan", defect: "litters-in-own-namespace", fails: map[string]string{
			"F06": "ADD with the node's own namespace fails and leaves + file /var/lib/broken",
		}},
		{plugin: "macvlan", defect: "litters-without-master", fails: map[string]string{
			"F07": "ADD without the uplink fails and leaves + file /var/lib/broken",
		}},
		{
			plugin: "macvlan",
			defect: "names-no-master",
			fails:  map[string]string{"F07": "the message does not name eno1"},
		},
		{
			plugin: "macvlan",
			defect: "keeps-its-lock",
			fails:  map[string]string{"H05": "ADD after another one was killed: want success"},
		},
		{
			plugin: "macvlan", defect: "leaves-tentative", chain: []string{dual(macvlan), route},
			fails: map[string]string{"I02": "is tentative when ADD returns"},
		},
		{plugin: "macvlan", defect: "needs-programs", fails: map[string]string{
			"I04": "ADD on a node without programs: want an error object on stdout, got exit status 2",
		}, also: []string{"EXE-1", "EXE-2"}},
	}
}

// badUnasked returns defects that an ordinary run does not show: other networks, keys that no runtime sets, queries
// that change something.
func badUnasked() []spoilt {
	const other = "of the network net deletes what an attachment of the network cnitest-other has: "
	reads := "ADD with a configuration with 96 KiB of white space: want success as without, got exit status 1"
	return []spoilt{
		{plugin: "host-local", defect: "collects-other-networks", fails: map[string]string{
			"GC-6": other + "+ file /var/lib/cni/networks/cnitest-other/192.168.1.",
		}},
		{plugin: "route", defect: "collects-other-networks", fails: map[string]string{"GC-6": other}},
		{
			plugin: "route",
			defect: "forgets-search",
			fails:  map[string]string{"ADD-7": "prevResult has pods.example among dns.search, and the result has not"},
		},
		{
			plugin: "route",
			defect: "forgets-pci-id",
			fails:  map[string]string{"ADD-7": "prevResult has interfaces.pciID: 0000:00:1f.6, and the result has not"},
		},
		{
			plugin: "route",
			defect: "forgets-advmss",
			fails:  map[string]string{"ADD-7": "prevResult has routes.advmss: 1360, and the result has not"},
		},
		{plugin: "route", defect: "status-makes-link", fails: map[string]string{
			"EXE-5": "STATUS on a node without pods changes something, which ADD, DEL and GC alone do: + link ready0",
		}},
		{plugin: "macvlan", defect: "check-writes", fails: map[string]string{
			"EXE-5": "CHECK with a pod attached changes something, which ADD, DEL and GC alone do: + file " +
				"/var/lib/broken",
		}, may: []string{"LIF-1", "DEL-1"}},
		{plugin: "macvlan", defect: "reads-a-page", fails: map[string]string{"CFG-8": reads}},
		{plugin: "route", defect: "reads-a-page", fails: map[string]string{"CFG-8": reads}},
		{plugin: "host-local", defect: "reads-a-buffer", fails: map[string]string{"CFG-8": reads}},
		{plugin: "macvlan", defect: "takes-advertisements", fails: map[string]string{
			"NET-1": "the pod takes from a router advertisement what no result lists: + first address 2001:db8:5:",
		}},
		{
			plugin: "route",
			defect: "takes-advertisements",
			fails:  map[string]string{"NET-1": "+ first address 2001:db8:5:"},
		},
		{plugin: "macvlan", defect: "proxies-arp", fails: map[string]string{
			"NET-2": "the pod answers ARP for 192.168.255.254, which nobody has",
		}},
		{plugin: "macvlan", defect: "knows-no-dots", fails: map[string]string{
			"NET-3": "ADD with the interface name net1.100: want success, got exit status",
		}},
		{plugin: "macvlan", defect: "keeps-no-address", chain: []string{dual(macvlan), route}, fails: map[string]string{
			"NET-4": "after eth0 of the pod went down and up the pod has lost the address fd00:",
		}},
		{plugin: "macvlan", defect: "leaves-down", fails: map[string]string{
			"ADD-1": "ADD leaves the interface eth0 down",
		}, also: []string{"RES-4", "VER-4"}},
		{plugin: "macvlan", defect: "shortens-queue", fails: map[string]string{
			"ADD-1": "ADD makes the interface eth0 with a transmit queue of length 0",
		}},
		{plugin: "route", defect: "keeps-mtu", fails: map[string]string{
			"DEL-1": "DEL leaves the pod's interface as ADD made it: ~ first link eth0",
		}, also: []string{"DEL-2"}, may: []string{"RES-3"}},
		{plugin: "macvlan", defect: "del-wants-uplink", fails: map[string]string{
			"DEL-3": "DEL after the uplink got another name: want success, got exit status",
		}},
		{plugin: "macvlan", defect: "remembers-failure", fails: map[string]string{
			"D07": "ADD of the next pod, after the first ADD of the node failed and its DEL: want success",
		}},
		{
			plugin: "route",
			defect: "answers-for-others",
			fails:  map[string]string{"NET-2": "the pod answers ARP for 192.168.255.253, which nobody has"},
		},
		{plugin: "route", defect: "lowers-lo", fails: map[string]string{
			"ADD-8": "ADD changes an interface in the pod that is not of this network: - first address ::1/128 dev lo",
		}, also: []string{"DEL-1", "DEL-2"}},
	}
}

// badPace returns defects of plugins that work, but slowly.
func badPace() []spoilt {
	return []spoilt{
		{plugin: "macvlan", defect: "takes-seconds", fails: map[string]string{
			"TIM-1": "times as long as a plugin that does nothing",
		}, timed: true},
		{plugin: "route", defect: "slows-with-each-pod", fails: map[string]string{
			"TIM-2": "longer for each attachment that the node has",
		}, may: []string{"DEL-2", "DEL-1"}, timed: true},
	}
}
