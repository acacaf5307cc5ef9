package e2e_test

import "strings"

// faultyHostile returns conflists under which hostile pods do harm.
func faultyHostile() []control {
	return []control{
		{name: "hostile pods beside a naive child", chain: []string{macvlan, naive}, want: map[string]expected{
			"hostile-router":         fail("node/a: addresses and default-routes changed: + address 2001:db8:66:"),
			"hostile-spoofs-to-node": fail("node/a got a packet from 192.168.1.3 to 192.168.0.2 on eno1.host"),
			"hostile-forwards-to-node": fail("node/a got a packet from 192.168.1.3 to 192.168.0.2 on eno1.host, which " +
				"pod/other sent by way of pod/evil"),
			"hostile-joins-connections": fail("node/a keeps the connection 192.168.1.3:9 to 192.168.0.2:9, which " +
				"pod/evil began with an address of pod/left"),
			"hostile-reaches-loopback": fail("node/a got a packet from 192.168.1.2 to 127.0.0.1 on eno1.host, which " +
				"pod/evil sent to the loopback"),
			"hostile-floods-neighbours": fail("for 8 of 16 machines that do not exist and in whose names pod/evil " +
				"asked: 198.18."),
		}},
		{name: "checks-new-connections", chain: afterPtp("checks-new-connections"), want: map[string]expected{
			"hostile-answers-for-others": fail("which pod/evil sent with an address of host/lan, which node/a had " +
				"asked"),
			"hostile-spoofs-to-node": pass(),
		}},
		{name: "a filter that comes late", chain: []string{ptp, broken("strict-node-side")}, want: with(passes(
			"hostile-spoofs-to-node", "hostile-answers-for-others", "hostile-forwards-to-node"), map[string]expected{
			"hostile-joins-connections": fail("node/a counts 4 packets of pod/evil as those of the " +
				"connection 10.23.0.3:9 to 192.0.2.2:9, which pod/left has"),
		})},
		{name: "a filter that others loosen", chain: afterPtp("strict-node-side"), want: map[string]expected{
			"hostile-after-sysctls": fail("yaml:27: hostile pod/evil does spoof as pod/other to node/a: node/a got a " +
				"packet from 10.23.0.3 to"),
		}},
		{name: "hostile pods on a flat network", chain: []string{macvlan}, want: map[string]expected{
			"hostile-spoofs":           fail("pod/victim got a packet from 192.168.1.3 to 192.168.1.4 on eth0"),
			"hostile-forwards":         fail("which pod/other sent by way of pod/evil"),
			"hostile-claims-addresses": fail("the MAC of pod/evil, which claimed it"),
			"hostile-offers-leases":    fail("to 255.255.255.255 on eth0, which pod/evil sent as a DHCP server"),
			"hostile-takes-mac":        fail("which pod/evil sent with the MAC of pod/right"),
			"hostile-tags-frames":      fail("which pod/evil sent with a VLAN tag"),
		}},
		{
			name: "hostile pods of a cloud that nobody checks", chain: []string{routedENI},
			target: ipamd(plenty(), "--check-sources=false"), want: map[string]expected{
				"hostile-spoofs":            fail("pod/victim got a packet from 10.0.0."),
				"hostile-spoofs-to-node":    fail("node/a got a packet from 10.0.0."),
				"hostile-forwards":          fail("which pod/other sent by way of pod/evil"),
				"hostile-forwards-to-node":  fail("which pod/other sent by way of pod/evil"),
				"hostile-reaches-loopback":  fail("which pod/evil sent to the loopback of its node"),
				"hostile-joins-connections": fail("which pod/evil began with an address of pod/left"),
				"hostile-reaches-metadata":  fail("the metadata service of node/a at 169.254.169.254:80"),
			},
		},
		{
			name: "hostile pods of a cloud over IPv6 that nobody checks", chain: []string{routedENI},
			target: ipamd(withIPv6(), "--ip-family", "ipv6"), want: map[string]expected{
				"hostile-reaches-metadata": fail("the metadata service of node/a at [fd00:ec2::254]:80"),
			},
		},
	}
}

// hostile returns conflists under which hostile pods do not do the harm that they try to do.
func hostile() []control {
	return []control{
		{name: "hostile pods behind a router", chain: []string{ptp}, want: with(passes("hostile-claims-addresses",
			"hostile-offers-leases", "hostile-router", "hostile-tags-frames", "hostile-takes-mac"), map[string]expected{
			"hostile-spoofs": fail("pod/victim got a packet from 10.23.0.3 to 10.23.0.4 on eth0"),
		})},
		{
			name: "hostile pods behind a strict router", chain: []string{ptp, broken("strict-node-side")},
			want: passes("hostile-spoofs", "hostile-spoofs-to-node", "hostile-answers-for-others", "hostile-forwards",
				"hostile-forwards-to-node"),
		},
		{
			name:  "hostile pods with a guarded veth",
			chain: []string{strings.Replace(macvlan, pool, dualPool, 1), vethToHost},
			want: passes("hostile-spoofs-to-node", "hostile-answers-for-others", "hostile-forwards-to-node",
				"hostile-joins-connections", "hostile-reaches-loopback", "hostile-floods-neighbours",
				"hostile-after-sysctls"),
		},
		{
			name: "hostile pods of a cloud over IPv6", chain: []string{routedENI},
			target: ipamd(withIPv6(), "--ip-family", "ipv6", "--pod-metadata=false"),
			want:   passes("hostile-reaches-metadata"),
		},
		{
			name: "hostile pods of a cloud", chain: []string{routedENI},
			target: ipamd(plenty(), "--pod-metadata=false"),
			want: passes("hostile-spoofs", "hostile-spoofs-to-node", "hostile-answers-for-others", "hostile-forwards",
				"hostile-joins-connections", "hostile-forwards-to-node", "hostile-reaches-loopback",
				"hostile-reaches-metadata",
				"hostile-after-sysctls", "second-interface", "several-networks-replies"),
		},
	}
}
