package e2e_test

// badDeletes returns defects of DEL. The reason must name what stays behind.
func badDeletes() []spoilt {
	// State that every DEL leaves is noticed by all requirements that examine DEL.
	leak := func(plugin, kind, seen string) spoilt {
		return spoilt{
			plugin: plugin, defect: "leaks-" + kind, fails: map[string]string{
				"DEL-1": "DEL leaves something with each pod: + " + seen,
			},
			also: []string{"LIF-1"}, may: []string{"DEL-3", "STA-3"},
		}
	}
	return []spoilt{
		leak("route", "link", "link leak"),
		leak("route", "address", "address 198.18."),
		leak("route", "route", "route blackhole 198.18."),
		leak("route", "rule", "rule inet 1000: from 198.18."),
		leak("route", "neighbour", "neighbour 198.18."),
		leak("route", "nftables", "nftables table ip leak"),
		leak("route", "qdisc", "qdisc dev lo class 1:"),
		leak("route", "file", "file /var/lib/broken/leak"),
		leak("route", "process", "process "),
		leak("route", "mount", "mount /mnt"),
		leak("route", "fdb", "fdb 02:77:00:00:"),
		leak("route", "multicast", "multicast 01005e01"),
		leak("route", "nexthop", "nexthop id "),
		leak("route", "xfrm", "xfrm policy src 198.18."),
		leak("route", "proxy", "neighbour 198.18."),
		leak("route", "action", "qdisc action mirred index "),
		leak("route", "zone", "conntrack zone "),
		leak("route", "pin", "file /mnt/bpf/leak"),
		leak("route", "namespace", "file /run/netns/leak"),
		leak("route", "ipset", "ipset entry of leak 198.18."),
		{plugin: "macvlan", defect: "leaks-reservation", fails: map[string]string{
			"DEL-1": "DEL leaves something with each pod: + file /var/lib/cni/networks/net/192.168.1.",
		}, also: []string{"LIF-1", "STA-5", "DLG-1", "DLG-3", "DEL-2"}},
		{plugin: "route", defect: "deletes-by-container", fails: map[string]string{
			"DEL-1": "DEL of one of two attachments of a pod deletes what the other has: ",
		}},
		{plugin: "host-local", defect: "deletes-by-container", fails: map[string]string{
			"DEL-1": "DEL of one of two attachments of a pod deletes what the other has: + file /var/lib/cni/networks/net/",
		}},
		{plugin: "route", defect: "needs-prevresult", fails: map[string]string{
			"DEL-2": "DEL without prevResult: want success", "DEL-4": "DEL without any ADD: want success",
		}},
		{
			plugin: "route",
			defect: "does-nothing-without-prevresult",
			fails:  map[string]string{"DEL-2": "DEL without prevResult leaves"},
		},
		{
			plugin: "macvlan", defect: "fails-on-loss", also: []string{"STA-3"},
			fails: map[string]string{"DEL-3": "want success, got exit status 1", "DEL-4": "DEL again: want success"},
		},
		{plugin: "route", defect: "stops-on-loss", fails: map[string]string{"DEL-3": "leaves"}},
		{plugin: "host-local", defect: "fails-without-attachment", may: []string{"DEL-5"}, also: []string{
			"DEL-3",
			"ENV-4",
		}, fails: map[string]string{"DEL-4": "code 3: container cnitest-first: unknown"}},
		{plugin: "macvlan", defect: "needs-namespace", fails: map[string]string{
			"DEL-5": "DEL with the namespace gone leaves + file /var/lib/cni/networks/net/192.168.1.2",
		}},
		{plugin: "host-local", defect: "needs-namespace", fails: map[string]string{
			"DEL-5": "DEL with the namespace gone leaves + file /var/lib/cni/networks/net/192.168.1.2",
		}},
		{
			plugin: "route", defect: "forgets-old-format", versions: "0.3.1 1.1.0",
			fails: map[string]string{"D12": "of what ADD at 0.3.1 made leaves + file /var/lib/broken"},
		},
		{
			plugin: "route", defect: "empties-the-node",
			fails: map[string]string{
				"RACE-ADD-DEL": "link eno1.host is missing",
				"DEL-1":        "DEL of one of two attachments of a pod deletes what the other has: + link eno1.host",
			},
		},
	}
}

// badChecks returns defects of CHECK.
func badChecks() []spoilt {
	return []spoilt{
		{plugin: "macvlan", defect: "checks-nothing", fails: map[string]string{
			"CHK-3": "CHECK passes whatever is taken away", "CHK-4": "CHECK passes whatever is taken away",
			"CHK-5": "CHECK passes whatever is taken away",
			"CHK-1": "CHECK without prevResult passes",
		}},
		{
			plugin: "macvlan",
			defect: "checks-without-prevresult",
			fails:  map[string]string{"CHK-1": "CHECK without prevResult passes, want an error"},
		},
		{
			plugin: "macvlan", defect: "believes-the-kernel", also: []string{
				"CHK-7", "DLG-3", "CHK-4", "CHK-5", "CHK-3",
			},
			fails: map[string]string{"CHK-1": "CHECK with addresses in prevResult that the pod does not have passes"},
		},
		{
			plugin: "macvlan",
			defect: "knows-all-routes",
			fails:  map[string]string{"CHK-2": "route to 198.18.0.0/24: not of this plugin"},
		},
		{
			plugin: "macvlan",
			defect: "overlooks-addresses",
			fails:  map[string]string{"CHK-3": "CHECK passes with address 192.168.1.2/16"},
		},
		{
			plugin: "macvlan", defect: "swallows-reservations", also: []string{"CHK-7", "DLG-3"},
			fails: map[string]string{"CHK-4": "CHECK passes with file /var/lib/cni/networks/net/192.168.1.2"},
		},
		{
			plugin: "macvlan",
			defect: "overlooks-down",
			fails:  map[string]string{"CHK-5": "CHECK passes with link eth0 in the pod set down"},
		},
		{plugin: "macvlan", defect: "checks-a-page", fails: map[string]string{"CHK-6": "not among the first 16"}},
		{
			plugin: "macvlan", defect: "checks-too-early", fails: map[string]string{"CHK-6": "not ready yet"},
			skips: map[string]string{
				"CHK-1": "see CHK-6", "CHK-3": "see CHK-6", "CHK-4": "see CHK-6", "CHK-5": "see CHK-6",
				"TIM-1": "a CHECK that it needs fails, see CHK-6",
			},
			also: []string{
				"CHK-7", "DLG-3", "DLG-1", "STA-3", "LIF-1", "CHK-2", "GC-1", "ENV-4", "DEL-1", "VER-4",
			},
		},
		{
			plugin: "macvlan", defect: "checks-alone", also: []string{"CHK-4", "DLG-1"},
			fails: map[string]string{
				"CHK-7": "CHECK does not call CHECK of the plugin", "DLG-3": "CHECK does not call CHECK",
			},
		},
		{plugin: "macvlan", defect: "swallows-error-of-check", fails: map[string]string{
			"CHK-7": "CHECK succeeds although the plugin that it delegates to failed",
			"DLG-3": "CHECK succeeds although",
		}},
	}
}

// badStatus returns defects of STATUS.
func badStatus() []spoilt {
	return []spoilt{
		{
			plugin: "route",
			defect: "always-ready",
			fails:  map[string]string{"STA-1": "STATUS succeeds whatever ADD lacks"},
		},
		{
			plugin: "macvlan", defect: "never-ready", also: []string{"STA-4", "STA-5"},
			fails: map[string]string{"STA-1": "STATUS of a plugin that is ready: want success"},
		},
		{plugin: "route", defect: "needs-status", fails: map[string]string{
			"STA-2": "ADD succeeds after STATUS and fails without", "ADD-2": "STATUS was not asked",
		}, also: []string{"LIF-1", "I04", "CFG-7", "VER-4"}},
		{
			plugin: "macvlan", defect: "closed-when-not-ready", also: []string{"STA-5"},
			fails: map[string]string{"STA-3": "DEL with no address left: want success"},
		},
		{
			plugin: "macvlan", defect: "status-alone", also: []string{"STA-1", "STA-5"},
			fails: map[string]string{"STA-4": "STATUS does not call STATUS of the plugin"},
		},
		{
			plugin: "macvlan", defect: "swallows-error-of-status", also: []string{"STA-1", "STA-5"},
			fails: map[string]string{"STA-4": "STATUS succeeds although the plugin that it delegates to failed"},
		},
		{plugin: "macvlan", defect: "calls-retry-internal", fails: map[string]string{
			"STA-5": "STATUS with no address left: want code 50 or 51", "STA-4": "and it says exit status 1, code 999",
		}},
		{
			plugin: "host-local",
			defect: "never-full",
			fails:  map[string]string{"STA-5": "STATUS succeeds with no address left"},
		},
	}
}

// badCollections returns defects of GC.
func badCollections() []spoilt {
	return []spoilt{
		{
			plugin: "host-local",
			defect: "collects-nothing",
			also:   []string{"GC-2"},
			fails:  map[string]string{"GC-1": "GC succeeds and deletes nothing"},
		},
		{
			plugin: "host-local",
			defect: "collects-everything",
			fails:  map[string]string{"GC-1": "GC deletes what belongs to the valid attachment"},
		},
		{
			plugin: "route",
			defect: "collects-everything",
			fails:  map[string]string{"GC-1": "GC deletes what belongs to the valid attachment"},
		},
		{
			plugin: "route",
			defect: "knows-the-other-key",
			fails:  map[string]string{"GC-1": "GC deletes what belongs to the valid attachment"},
		},
		{plugin: "route", defect: "collects-by-container", fails: map[string]string{
			"GC-1": "GC with one of two attachments of a pod leaves of the other: + ",
		}},
		{plugin: "host-local", defect: "collects-by-container", fails: map[string]string{
			"GC-1": "GC with one of two attachments of a pod leaves of the other: + file /var/lib/cni/networks/net/",
		}},
		{
			plugin: "host-local",
			defect: "keeps-when-none-is-valid",
			fails:  map[string]string{"GC-1": "GC with an empty list leaves of live"},
		},
		{
			plugin: "host-local",
			defect: "stops-collecting",
			fails:  map[string]string{"GC-2": "and leaves of another stale attachment"},
		},
		{
			plugin: "host-local",
			defect: "hides-errors-of-gc",
			fails:  map[string]string{"GC-2": "and succeeds, want an error"},
		},
		{plugin: "macvlan", defect: "collects-alone", also: []string{"GC-2"}, fails: map[string]string{
			"GC-3": "GC does not call GC of the plugin", "GC-1": "GC succeeds and deletes nothing",
			"DLG-3": "GC does not call GC of the plugin",
		}},
		{plugin: "macvlan", defect: "swallows-error-of-gc", fails: map[string]string{
			"GC-3": "GC succeeds although the plugin that it delegates to failed", "DLG-3": "GC succeeds although",
		}},
		{
			plugin:  "route",
			defect:  "reports-collection",
			fails:   map[string]string{"GC-4": "GC succeeds and prints"},
			through: []string{"GC-1"},
		},
	}
}
