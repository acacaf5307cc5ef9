package e2e_test

import "strings"

// badSentences returns defects that violate sentences of the specification which few plugins are tested for.
func badSentences() []spoilt {
	return []spoilt{
		{plugin: "macvlan", defect: "deletes-without-id", fails: map[string]string{
			"ENV-5": "DEL without CNI_CONTAINERID: want code 4, got exit status 0",
		}},
		{plugin: "route", defect: "does-not-know-verbs", fails: map[string]string{
			"ENV-5": "a call with CNI_COMMAND=FROBNICATE: want code 4, got exit status 0",
		}},
		{plugin: "macvlan", defect: "needs-hex-ids", fails: map[string]string{
			"ENV-6": "ADD of the container 7a_b.c-D: want success, got exit status 1, code 100",
		}},
		{plugin: "host-local", defect: "mends-ids", fails: map[string]string{
			"ENV-6": "ADD of the container 7a-b_c.d: want success, got",
		}},
		{plugin: "macvlan", defect: "litters-without-container", fails: map[string]string{
			"ERR-4": "ADD fails with code 3, after which no DEL comes, and leaves + file /var/lib/broken",
		}},
		{plugin: "route", defect: "calls-io-internal", fails: map[string]string{
			"ERR-5": "ADD with an input that cannot be read: want code 5, got exit status 1, code 999",
		}},
		{plugin: "macvlan", defect: "releases-first", fails: map[string]string{
			"D15": "DEL calls DEL of host-local while eth0 of the pod still has 192.168.",
		}},
		{plugin: "host-local", defect: "takes-any-gateway", fails: map[string]string{
			"CFG-12": "ADD with the gateway 203.0.113.254 succeeds, and the result has it for the address 192.168.",
		}},
		{plugin: "route", defect: "crashes-on-mistakes", fails: map[string]string{
			"CFG-13": "DEL with master of another type: want an error object, got exit status 2",
		}},
		{plugin: "route", defect: "del-wants-programs", fails: map[string]string{
			"I04": "DEL on a node without programs, where ADD succeeded: want success, got exit status 1, code 100",
		}},
		{plugin: "macvlan", defect: "drops-dns", fails: map[string]string{
			"G13": "answers the name server 192.0.2.53 and the search domain ipam.example, and the result has [] and []",
		}},
		{plugin: "macvlan", defect: "takes-any-answer", fails: map[string]string{
			"DLG-6": "ADD succeeds although the plugin that it delegates to is killed",
		}},
		{plugin: "macvlan", defect: "cleans-environment", fails: map[string]string{
			"DLG-7": `ADD: the delegated plugin gets TRACEPARENT="", want "00-`,
		}},
		{plugin: "route", defect: "chokes-on-traces", fails: map[string]string{
			"DLG-7": "ADD with the context of a trace in its environment: want success, got exit status 1, code 4",
		}},
		{plugin: "macvlan", defect: "takes-one-address", fails: map[string]string{
			"DLG-5": "the IPAM plugin answers the address 198.51.100.9/24, and eth0 has [198.51.100.8/24",
		}},
		{plugin: "macvlan", defect: "forgets-metrics", fails: map[string]string{
			"DLG-5": "the IPAM plugin answers the route 192.0.2.0/25 via 198.51.100.1 mtu 1380 advmss 1300 priority " +
				"77, " +
				"and that of the pod has no priority 77",
		}},
		{plugin: "macvlan", defect: "hides-a-route", fails: map[string]string{
			"RES-6": "ADD gives the pod the route 203.0.113.0/24 table main",
		}},
		{plugin: "macvlan", defect: "hides-an-address", fails: map[string]string{
			"RES-6": "ADD gives the pod the address 203.0.113.9/32 dev eth0, and the result does not list it",
		}},
		{plugin: "macvlan", defect: "hides-mac", fails: map[string]string{
			"RES-7": "the result gives eth0 no mac, and it has ",
		}},
		{plugin: "macvlan", defect: "names-no-socket", fails: map[string]string{
			"RES-7": `the result gives eth0 the socketPath "vhost.sock", want an absolute path`,
		}},
		{plugin: "macvlan", defect: "invents-devices", fails: map[string]string{
			"RES-7": `the result gives eth0 the pciID "ffff:ff:1f.7", which does not exist`,
		}},
		{plugin: "macvlan", defect: "forgets-dns-options", fails: map[string]string{
			"CFG-10": "the configuration has timeout:1 in dns.options, and the result has []",
		}},
		{plugin: "ptp", defect: "masquerades-nothing", chain: []string{masquerading(ptp)}, fails: map[string]string{
			"CFG-11": "with ipMasq host/lan still sees the pod's own address 10.23.0.",
		}},
		{plugin: "ptp", defect: "masquerades-inside", chain: []string{masquerading(ptp)}, fails: map[string]string{
			"CFG-11": "with ipMasq another pod of the network 10.23.0.0/16 sees ",
		}},
		{plugin: "ptp", defect: "masquerades-and-drops", chain: []string{masquerading(ptp)}, fails: map[string]string{
			"CFG-11": "with ipMasq the pod reaches host/lan no more: ",
		}},
		{
			plugin: "macvlan", defect: "forgives-capabilities", chain: []string{capable(macvlan)},
			fails: map[string]string{
				"CNV-1": "ADD with the capability mac and the value cnitest-nonsense succeeds, want an error",
			},
		},
		{plugin: "macvlan", defect: "ignores-capabilities", chain: []string{capable(macvlan)}, fails: map[string]string{
			"CNV-3": "the capability mac asks for 02:63:",
		}},
		{plugin: "route", defect: "refuses-args", fails: map[string]string{
			"CNV-2": "ADD with unknown args: want success as without, got exit status 1, code 7",
		}},
		{plugin: "macvlan", defect: "exaggerates-status", fails: map[string]string{
			"STA-6": "STATUS: the plugin that it delegates to fails with code 50, and it with exit status 1, code 51",
		}},
		{plugin: "route", defect: "belittles-outages", fails: map[string]string{
			"STA-6": "STATUS with the uplink down, without which an attached pod no longer reaches host/lan: want " +
				"code 51, got",
		}},
		{plugin: "host-local", defect: "exaggerates-status", fails: map[string]string{
			"STA-6": "STATUS with no address left, of which attached pods notice nothing: want code 50",
		}},
		{plugin: "macvlan", defect: "calls-transient-internal", fails: map[string]string{
			"ERR-6": "ADD: the plugin that it delegates to fails with code 11, and it with exit status 1, code 999",
		}},
		{
			plugin: "macvlan", defect: "overlooks-gateways", chain: []string{viaGateway(macvlan)},
			fails: map[string]string{
				"CHK-3": "CHECK passes with route default table main in the pod with another gateway",
			},
		},
		{plugin: "macvlan", defect: "overlooks-mac", fails: map[string]string{
			"CHK-1": "CHECK with hardware addresses in prevResult that the pod does not have passes, want an error",
			"CHK-3": "CHECK passes with link eth0 in the pod with another MAC",
		}},
		{plugin: "macvlan", defect: "refuses-keys-in-del", fails: map[string]string{
			"CFG-7": "DEL with an unknown key: want success or code 2, got exit status 1, code 7",
		}},
		{plugin: "macvlan", defect: "counts-losses", fails: map[string]string{
			"DEL-3": "DEL with all removed that ADD made: want success, got exit status 1, code 100: neither eth0 nor",
		}},
		{plugin: "macvlan", defect: "follows-paths", fails: map[string]string{
			"CFG-9": `ADD with the ipam.type "./host-local" succeeds, want an error`,
		}},
	}
}

// masquerading returns a plugin's configuration with ipMasq.
func masquerading(config string) string { return strings.Replace(config, "{", `{"ipMasq": true, `, 1) }

// capable returns a plugin's configuration with the capability mac.
func capable(config string) string {
	return strings.Replace(config, "{", `{"capabilities": {"mac": true}, `, 1)
}

// viaGateway returns a configuration of host-local whose default route names its gateway.
func viaGateway(config string) string {
	return strings.Replace(config, `"dst": "0.0.0.0/0"`, `"dst": "0.0.0.0/0", "gw": "192.168.0.1"`, 1)
}
