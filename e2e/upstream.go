package e2e

import "strings"

// upstreamLimit is what an upstream plugin cannot do by design, so that a scenario which shows it says nothing about the
// plugins under test.
type upstreamLimit struct {
	scenario string
	// plugin is the one whose call fails, and message a part of what it says, in lower case: another failure is one.
	plugin, message string
	reason          string
}

// upstreamLimits are all that are known, each with its reason.
func upstreamLimits() []upstreamLimit {
	return []upstreamLimit{
		{
			scenario: "chain-bandwidth", plugin: "bandwidth", message: "no veth peer",
			reason: "bandwidth shapes the host's end of a veth pair and refuses a pod whose interface is a macvlan or an ipvlan (plugins, meta/bandwidth)",
		},
		{
			scenario: "chain-sbr", plugin: "macvlan", message: "failed to find gateway",
			reason: "sbr moves the routes of its interface into a table of its own, and the CHECK of macvlan looks for its default route in the main one (plugins, meta/sbr)",
		},
	}
}

// knownUpstream is the reason why a failed step says nothing about the plugins under test.
func knownUpstream(scenario string, failed *stepError) (string, bool) {
	for _, l := range upstreamLimits() {
		if l.scenario == scenario && l.plugin == failed.plugin && strings.Contains(strings.ToLower(failed.Error()), l.message) {
			return l.reason, true
		}
	}
	return "", false
}
