package e2e

import (
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/target"
)

// upstreamLimit is something that an upstream plugin cannot do by design. A scenario that shows it says nothing about
// the plugins under test.
type upstreamLimit struct {
	scenario string
	// plugins are those whose call fails in this way. message is a part of their error, in lower case; any other error
	// counts as a failure.
	plugins []string
	message string
	reason  string
	// daemon is the program of the target's daemon that causes a failure which is not of a call; plugins is nil then.
	daemon string
}

// upstreamLimits returns all known limits, each with its reason.
func upstreamLimits() []upstreamLimit {
	return []upstreamLimit{
		{
			scenario: "chain-bandwidth", plugins: []string{"bandwidth"}, message: "no veth peer",
			reason: "bandwidth shapes the host's end of a veth pair and refuses a pod whose interface is a macvlan " +
				"or an ipvlan (plugins, meta/bandwidth)",
		},
		{
			scenario: "chain-sbr", plugins: []string{"macvlan", "ipvlan", "bridge", "ptp"},
			message: "failed to find gateway",
			reason: "sbr moves the routes of its interface into a table of its own, and the CHECK of the main " +
				"plugin looks for its default route in the main one (plugins, meta/sbr)",
		},
		{
			scenario: "dhcp-daemon-restart", daemon: "dhcp", message: "nobody renewed it in time",
			reason: "the daemon of dhcp keeps its leases only in memory: after a restart it renews none of those " +
				"that it made before (plugins, ipam/dhcp)",
		},
	}
}

// causedBy reports whether a failed call, or the daemon of a target, may be limited in this way.
func (l *upstreamLimit) causedBy(plugin string, t *target.Target) bool {
	if plugin != "" {
		return slices.Contains(l.plugins, plugin)
	}
	return l.daemon != "" && t != nil && t.Daemon != nil && t.Daemon.Command[0] == l.daemon
}

// limitOf returns why a failed step says nothing about the plugins under test, and false if it does say something.
func limitOf(scenario string, failed *environment.Failure, t *target.Target) (string, bool) {
	for _, l := range upstreamLimits() {
		if l.scenario == scenario && l.causedBy(failed.Plugin, t) &&
			strings.Contains(strings.ToLower(failed.Error()), l.message) {
			return l.reason, true
		}
	}
	return "", false
}

// upstream returns the plugins that github.com/containernetworking/plugins ships.
func upstream() []string {
	return []string{
		"bridge", "dummy", "host-device", "ipvlan", "loopback", "macvlan", "ptp", "tap", "vlan",
		"bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf", "dhcp", "host-local", "static",
	}
}

// linkKinds returns the kinds of links that upstream plugins make, to tell a kernel that lacks one from a plugin that
// fails.
func linkKinds() map[string]string {
	return map[string]string{
		"macvlan": "macvlan", "ipvlan": "ipvlan", "bridge": "bridge", "vlan": "vlan", "vrf": "vrf", "dummy": "dummy",
		"ptp": "veth",
	}
}

// defaultPlugins returns the plugins under test if nobody chooses: those of the chain that upstream does not ship, or
// the first one.
func defaultPlugins(file *conflist.File) []string {
	var own []string
	for _, p := range file.Plugins {
		if !slices.Contains(upstream(), p.Type) {
			own = append(own, p.Type)
		}
	}
	if own == nil {
		return []string{file.Plugins[0].Type}
	}
	return own
}
