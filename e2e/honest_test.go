package e2e_test

import (
	"strings"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// dual returns a plugin's configuration with addresses of both families.
func dual(config string) string { return strings.Replace(config, pool, dualPool, 1) }

// honest returns plugins without a defect, wrapped and as they are. Together they pass every requirement.
func honest() []sound {
	both := map[string]string{"macvlan": "none", "host-local": "none"}
	// The deviations that the reference library causes in every plugin.
	library := func(more map[string]report.Outcome) map[string]report.Outcome {
		all := map[string]report.Outcome{
			"VER-3": report.KnownUpstream, "ENV-2": report.KnownUpstream, "ENV-4": report.KnownUpstream,
			"EXE-2": report.KnownUpstream,
		}
		for id, outcome := range more {
			all[id] = outcome
		}
		return all
	}
	const na = report.NotApplicable
	return []sound{
		{
			name: "macvlan wrapped", plugin: "macvlan", role: contract.Main, chain: []string{macvlan}, defects: both,
			but: library(map[string]report.Outcome{
				"A08": na, "ARG-1": na, "C03": na, "CFG-11": na, "CNV-1": na, "CNV-3": na, "D08": na, "ERR-2": na,
				"ERR-4": na, "E17": na, "E20": na, "NET-4": na,
			}),
		},
		{
			name: "host-local wrapped", plugin: "host-local", role: contract.IPAM, chain: []string{macvlan},
			defects: both,
			but:     library(map[string]report.Outcome{"ERR-2": na, "ERR-4": na, "E20": report.Fail}),
		},
		{
			name: "route wrapped", plugin: "route", role: contract.Chained, chain: []string{macvlan, route},
			defects: map[string]string{"route": "none"},
			but: library(map[string]report.Outcome{
				"ERR-2": na, "ERR-4": na, "ADD-4": na, "CNV-1": na, "CNV-3": na, "CHN-1": na, "D07": na, "NET-1": na,
			}),
		},
		{
			name: "a plugin that masquerades", plugin: "ptp", role: contract.Main, chain: []string{masquerading(ptp)},
			defects: map[string]string{"ptp": "masquerades"}, asked: []string{"CFG-11"},
		},
		{
			name: "a plugin that knows its keys", plugin: "macvlan", role: contract.Main, chain: []string{macvlan},
			defects: map[string]string{"macvlan": "refuses-keys"}, asked: []string{"ERR-2", "CFG-7"},
		},
		{
			name: "a plugin with a capability", plugin: "macvlan", role: contract.Main,
			chain: []string{capable(macvlan)}, defects: both, asked: []string{"CNV-1", "CNV-3"},
		},
		{
			name: "a plugin that knows its containers", plugin: "macvlan", role: contract.Main,
			chain:   []string{macvlan},
			defects: map[string]string{"macvlan": "knows-containers"}, asked: []string{"ERR-4"},
		},
		{
			name: "a plugin that looks for duplicates", plugin: "macvlan", role: contract.Main,
			chain:   []string{macvlan},
			defects: map[string]string{"macvlan": "finds-duplicates"}, asked: []string{"C03"},
		},
		{
			name: "macvlan on two families", plugin: "macvlan", role: contract.Main, chain: []string{dual(macvlan)},
			defects: both,
			asked:   []string{"C03", "D08", "I02", "NET-4"},
		},
		{
			name: "tuning without anything to tune", plugin: "tuning", role: contract.Chained,
			chain: []string{macvlan, `{"type": "tuning"}`},
			asked: []string{"ADD-4", "CHN-1"},
		},
	}
}
