package e2e

import (
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/internal/environment"
)

// upstreamLimit is what an upstream plugin cannot do by design, so that a scenario which shows it says nothing about the
// plugins under test.
type upstreamLimit struct {
	scenario string
	// plugins are those whose call fails in this way, and message is a part of what they say, in lower case: another failure is one.
	plugins []string
	message string
	reason  string
}

// upstreamLimits are all that are known, each with its reason.
func upstreamLimits() []upstreamLimit {
	return []upstreamLimit{
		{
			scenario: "chain-bandwidth", plugins: []string{"bandwidth"}, message: "no veth peer",
			reason: "bandwidth shapes the host's end of a veth pair and refuses a pod whose interface is a macvlan or an ipvlan (plugins, meta/bandwidth)",
		},
		{
			scenario: "chain-sbr", plugins: []string{"macvlan", "ipvlan", "bridge", "ptp"}, message: "failed to find gateway",
			reason: "sbr moves the routes of its interface into a table of its own, and the CHECK of the main plugin looks for its default route in the main one (plugins, meta/sbr)",
		},
	}
}

// knownUpstream is the reason why a failed step says nothing about the plugins under test.
func knownUpstream(scenario string, failed *environment.Failure) (string, bool) {
	for _, l := range upstreamLimits() {
		if l.scenario == scenario && slices.Contains(l.plugins, failed.Plugin) && strings.Contains(strings.ToLower(failed.Error()), l.message) {
			return l.reason, true
		}
	}
	return "", false
}
