package e2e_test

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
			"DLG-5": "the IPAM plugin answers the route 192.0.2.0/25 via 198.51.100.1 mtu 1380 advmss 1300 priority 77, " +
				"and that of the pod has no priority 77",
		}},
		{plugin: "macvlan", defect: "follows-paths", fails: map[string]string{
			"CFG-9": `ADD with the ipam.type "./host-local" succeeds, want an error`,
		}},
	}
}
