package e2e_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TestFirstAttachment checks that a refused ADD is reported once, with what the kernel refused, and that it blocks
// everything that needs an attachment.
func TestFirstAttachment(t *testing.T) {
	t.Parallel()
	with := func(key string) string {
		return strings.Replace(macvlan, `"type": "macvlan"`, `"type": "macvlan", `+key, 1)
	}
	ipam := func(text string) string { return strings.Replace(macvlan, pool, text, 1) }
	for _, tt := range sharedOut(t, []struct {
		name  string
		chain []string
		// plugin is the responsible plugin, reason a part of the reason.
		plugin, reason string
	}{
		{"an MTU above that of any Ethernet", []string{with(`"mtu": 70000`)}, "macvlan", "invalid MTU 70000"},
		{"a multicast MAC", []string{with(`"mac": "01:00:5e:00:00:01"`)}, "macvlan", "the kernel refused RTM_NEWLINK macvlan veth"},
		{
			"no Kubernetes API",
			[]string{with(`"kubeconfig": "/etc/kubeconfig", "mtu": 70000`)},
			"macvlan",
			"the lab has none: a target file with `kubernetes` adds one",
		},
		{"no IPAM plugin", []string{with(`"mode": "bridge"`), `{"type": "broken", "fault": "no-such"}`}, "broken", `fault "no-such": want one of`},
		{"a file of name servers that there is not", []string{
			ipam(strings.Replace(pool, `"routes"`, `"resolvConf": "/no/resolv.conf", "routes"`, 1)),
		}, "macvlan", "the kernel refused open /no/resolv.conf: ENOENT"},
		{"a directory that cannot be made", []string{
			ipam(strings.Replace(pool, `"routes"`, `"dataDir": "/sys/cnitest", "routes"`, 1)),
		}, "macvlan", "the kernel refused mkdir /sys/cnitest: E"},
		{"text on stdout", []string{macvlan, route, broken("prints-text")}, "broken", "stdout of ADD is no result"},
		{"a link that there is not", []string{macvlan, `{"type": "veth-to-host", "hostInterface": "eno9"}`}, "veth-to-host", "eno9"},
		{"a link of its own name", []string{macvlan, `{"type": "route", "master": "eno1", "bridge": "eno1"}`}, "route", "eno1"},
		{
			"a link name that the kernel keeps",
			[]string{macvlan, `{"type": "route", "master": "eno1", "bridge": "all"}`},
			"route", "the kernel refused RTM_NEWLINK macvlan all link eno1 mtu 1500: EINVAL",
		},
		{"a link name in the pod that the kernel keeps", []string{
			macvlan, `{"type": "veth-to-host", "hostInterface": "eno1", "containerInterface": "all"}`,
		}, "veth-to-host", "peer all mtu 1500: EINVAL"},
		{
			"a rate that is none",
			[]string{bridge, `{"type": "bandwidth", "ingressRate": 1, "ingressBurst": 1}`},
			"bandwidth", "the kernel refused RTM_NEWQDISC tbf dev veth",
		},
		{
			"a program that is elsewhere",
			[]string{macvlan, route, broken("misses-program")},
			"broken",
			"the kernel refused stat /usr/local/sbin/sh: ENOENT",
		},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			defer enterLab()()
			told, begin := 0, machinetime.Start()
			suite := newSuite(t, e2e.Options{
				Conflist: writeConflist(t, "", tt.chain...), Plugins: []string{tt.plugin},
				Observe: e2e.Observer{Done: func(report.Result) {
					told++
				}},
			})
			if err := suite.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			if told != 1 {
				t.Fatal("the pod was attached, want a failure")
			}
			for _, u := range suite.Units() {
				suite.RunUnit(t.Context(), u)
			}
			r, err := suite.Finish()
			if err != nil {
				t.Fatal(err)
			}
			// Beside others that want the processors it takes as long as they let it.
			if took := begin.Given(); took > 5*time.Second && begin.Load() < 2 {
				t.Errorf("it took %s on a machine that is not busy, want 5 s at most", took)
			}
			failures := r.Causes()
			if r.Verdict != report.NotConformant || len(failures) != 1 || len(failures[0].Results) != 1 {
				t.Fatalf("got %s with the failures %v, want %s with one", r.Verdict, failures, report.NotConformant)
			}
			got := failures[0].Results[0]
			if got.ID != contract.FirstAttachment || got.Plugin != tt.plugin ||
				!strings.Contains(got.Reason, tt.reason) || len(got.Evidence) == 0 {
				t.Errorf("got %s of %s with %d pieces of evidence: %s\nwant it of %s: … %s …", got.ID, got.Plugin,
					len(got.Evidence), got.Reason, tt.plugin, tt.reason)
			}
			if blocked := r.Count(report.Blocked); blocked < 100 || failures[0].Blocks != blocked ||
				r.Count(report.Fail) != 1 {
				t.Errorf("got %s, of which the failure blocks %d, want all that needs an attachment", r.Tally(),
					failures[0].Blocks)
			}
		})
	}
}

// TestLack_later checks that a feature which the kernel lacks and a later call requests is named with its option, and
// that no plugin is blamed.
func TestLack_later(t *testing.T) {
	t.Parallel()
	suite := newSuite(
		t,
		e2e.Options{Conflist: writeConflist(t, "", afterRoute("needs-queue")...), Claims: scenario.Features()},
	)
	for _, sc := range suite.Scenarios() {
		if sc.Name != "chain-tuning" {
			continue
		}
		defer enterLab()()
		got := suite.Run(t.Context(), sc)
		if got.Result == report.Pass {
			t.Skip("this kernel hands packets to programs")
		}
		const lacks = "expressions of nf_tables of the kind inet queue (CONFIG_NFT_QUEUE)"
		if got.Result != report.Skipped || got.Lacks != lacks ||
			!strings.Contains(got.Reason, "asks: nft NEWRULE inet queue queue: ENOENT") {
			t.Errorf(
				"got %s that lacks %q: %s\nwant %s that lacks %q",
				got.Result,
				got.Lacks,
				got.Reason,
				report.Skipped,
				lacks,
			)
		}
	}
}

// TestFirstAttachment_program wants a program that is not installed to be named, and to be nobody's failure.
func TestFirstAttachment_program(t *testing.T) {
	suite := newSuite(t, e2e.Options{
		Conflist: writeConflist(t, "", macvlan, route, broken("needs-program")), Plugins: []string{"broken"},
	})
	err := suite.Prepare(t.Context())
	var unfit *cluster.UnfitError
	if !errors.As(err, &unfit) {
		t.Fatalf("got %v, want an error of the type %T", err, unfit)
	}
	const want = "the program cnitest-no-such-program is not installed, and broken calls it; install it"
	if !strings.Contains(err.Error(), want) || unfit.Plugin != "broken" {
		t.Errorf("got %v of %q, want … %s …", err, unfit.Plugin, want)
	}
}

// TestFirstAttachment_kernel wants a feature that the kernel lacks to be named with its option, and to be nobody's
// failure.
func TestFirstAttachment_kernel(t *testing.T) {
	chain := strings.Replace(bridge, `"isGateway"`, `"vlan": 10, "isGateway"`, 1)
	suite := newSuite(t, e2e.Options{Conflist: writeConflist(t, "", chain)})
	var unfit *cluster.UnfitError
	switch err := suite.Prepare(t.Context()); {
	case err == nil:
		t.Skip("this kernel filters VLANs on bridges")
	case !errors.As(err, &unfit):
		t.Fatalf("got %v, want an error of the type %T", err, unfit)
	}
	const want = "this kernel lacks VLAN filtering of bridges (CONFIG_BRIDGE_VLAN_FILTERING), for which bridge asks: "
	if got := fmt.Sprint(unfit); !strings.Contains(got, want) ||
		!strings.HasSuffix(got, "RTM_NEWLINK bridge cni0 vlan_filtering 1: EOPNOTSUPP") {
		t.Errorf("got %s, want … %s …", got, want)
	}
}
