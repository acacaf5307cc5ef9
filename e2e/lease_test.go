package e2e_test

import (
	"strings"

	"github.com/cnitest/cnitest/e2e/target"
)

// leasedBy is macvlan with addresses from a DHCP server, with a fault.
func leasedBy(fault string) string {
	return strings.Replace(leased, `"type": "macvlan"`, `"type": "broken", "delegate": "macvlan", "fault": "`+fault+
		`"`, 1)
}

// lasting is a target with a DHCP daemon that remembers its leases in a directory; $$ is the daemon's process.
func lasting(directory string) *target.Target {
	return &target.Target{Daemon: &target.Daemon{
		Name: "lasting", Command: []string{
			"sh", "-c", "PATH=/opt/cni/bin:$PATH; exec lasting /run/cni/dhcp.sock " + directory +
				" -timeout 2s -resendmax 1s -resendtimeout 6s",
		},
		Ready: target.Ready{Socket: "/run/cni/dhcp.sock"}, Owns: []string{"/run/cni"},
	}}
}

// onlyOnce is a target with a DHCP daemon that takes the pid file of its former life for another daemon's.
func onlyOnce() *target.Target {
	return &target.Target{Daemon: &target.Daemon{
		Name: "once", Command: []string{
			"sh", "-c", "PATH=/opt/cni/bin:$PATH; mkdir -p /run/cni; [ ! -e /run/cni/pid ] || { echo another one runs; exit 1; }; " +
				"echo $$ >/run/cni/pid; exec dhcp daemon -timeout 2s -resendmax 1s -resendtimeout 6s",
		},
		Ready: target.Ready{Socket: "/run/cni/dhcp.sock"}, Owns: []string{"/run/cni"},
	}}
}

// faultyLeases returns conflists whose addresses come from a DHCP server, and what scenarios must say of their faults.
func faultyLeases() []control {
	return []control{
		{
			name: "nobody renews leases", lease: shortLease, chain: []string{leased, broken("ends-leases")},
			want: map[string]expected{
				"dhcp-renewed":        fail("expired after 0 renewals: nobody renewed it in time"),
				"dhcp-pool-exhausted": failOf("macvlan", "dhcp.sock"),
			},
		},
		{
			name: "a daemon that forgets its leases", lease: shortLease, chain: []string{leased, route},
			target: lasting("/run/cni/$$"), want: map[string]expected{
				"dhcp-daemon-restart": fail("expired after 0 renewals: nobody renewed it in time"),
			},
		},
		{
			name: "a daemon that leaves its pid file", chain: []string{leased, route}, target: onlyOnce(),
			want: map[string]expected{"dhcp-daemon-starts-again": fail("another one runs")},
		},
		{
			name: "one client for all pods", chain: []string{leasedBy("one-client")}, want: map[string]expected{
				"dhcp-client-ids": fail("pod/right"),
			},
		},
		{
			name: "leases that nobody releases", chain: []string{leasedBy("keeps-lease")}, want: map[string]expected{
				"dhcp-pool-exhausted": fail("not released"),
			},
		},
	}
}
