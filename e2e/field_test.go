package e2e_test

import (
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/report"
)

var wholeField = flag.Bool("whole-field", false,
	"TestField runs everything on each file, not only what is particular to it")

// fieldRun is a posted file and the expected outcome.
type fieldRun struct {
	file string
	// refuses is a part of the error if nothing can run. unfit means that this kernel may lack what the file needs.
	refuses string
	unfit   string
	// first is a part of the reason for which the first attachment fails.
	first string
	// tells are results by name: the outcome, and a part of the reason after a colon. Those of whole are only compared
	// with -whole-field.
	tells, whole map[string]string
	// verdict is the verdict of the whole run.
	verdict report.Verdict
}

// mostCauses bounds the causes of a file, so that none hides in dozens of failures. Upstream's macvlan alone has
// thirteen, a file adds two or three, and new requirements some.
const mostCauses = 20

const (
	apart      = "fail:the kernel keeps such a device and its parent apart"
	advertises = "fail:the pod takes from a router advertisement what no result lists"
)

// fieldRuns returns the files of conflist/testdata/field that can be parsed, and some of field-more.txtar; TestField of
// package conflist has the others.
func fieldRuns() []fieldRun {
	const notConformant = report.NotConformant
	type results = map[string]string
	return []fieldRun{
		{file: "R03-crlf-tabs.conflist", whole: results{"host-to-pod": apart}, verdict: notConformant},
		{file: "R03-kubectl-list-crlf.yaml", whole: results{"host-to-pod": apart}, verdict: notConformant},
		{file: "R05-macvlan-vrf-routes.conflist", unfit: "links of the kind vrf (CONFIG_NET_VRF)"},
		{file: "R08-duplicate-key-bond.conf", refuses: ":4: no program for plugin bond"},
		{
			file:  "R09-tuning-literal-ifname.conflist",
			first: "tuning: open /proc/sys/net/ipv4/conf/eth1/arp_filter: no such file or directory",
			tells: results{"pod-to-pod-same-node": "blocked", "ip-reuse": "not-applicable"}, verdict: notConformant,
		},
		{file: "R09-whereabouts-dash-range.conflist", refuses: ":10: no program for whereabouts, the IPAM plugin of macvlan (line 6)"},
		{file: "R10-static-no-gateway.conf", verdict: notConformant, tells: results{
			"pod-to-pod-same-node": "not-applicable:the file gives every pod the same addresses",
			"external-to-pod":      "not-applicable:no route beyond their own network",
		}, whole: results{"del-twice": "pass"}},
		{
			file: "R12-static-ips-capability.conf", verdict: notConformant, tells: results{
				"pod-to-pod-same-node": "pass",
			},
			whole: results{
				"ARG-1 static": "not-applicable", "ARG-1 macvlan": "not-applicable:leaves the addresses to static",
			},
		},
		{
			file: "R12-static-ips-mac-sbr.conflist", verdict: notConformant, tells: results{
				"capabilities-asked": "pass",
			},
			whole: results{
				"pod-to-pod-same-node": "fail:network is unreachable",
			},
		},
		{
			// Until v1.9.1 host-local accepted it, and pods had "default via fe80::1".
			file:  "R13-ipv6-linklocal-gateway.conflist",
			first: "macvlan: invalid range set 0: gateway fe80::1 not in network fd00:20::/64", verdict: notConformant,
		},
		{file: "R16-dhcp-provide.conf", verdict: notConformant, tells: results{"DEL-4 dhcp": "pass"}, whole: results{
			"pod-to-pod-same-node": "pass", "ADD-2 dhcp": "pass", "DEL-1 dhcp": "pass",
			"STA-5 dhcp": "not-applicable:the DHCP server's",
		}},
		{file: "R16-vlan-subif-dhcp-portmap.conflist", verdict: notConformant, whole: results{"ADD-2 dhcp": "pass"}},
		{file: "R18-cniversions-disable.conflist", verdict: report.Conformant, whole: results{"host-to-pod": "pass"}},
		{file: "R19-list-in-dot-conf.conf", whole: results{"pod-to-pod-same-node": "pass"}, verdict: notConformant},
		{file: "R22-vlan-second-pod.conf", unfit: "links of the kind vlan (CONFIG_VLAN_8021Q)"},
		{file: "R23-host-device-altname.conflist", verdict: notConformant, tells: results{
			"device-comes-back": `fail:eno2: state was UP and is DOWN, alias was "port 0 of the lab" and is none`,
		}, whole: results{"ADD-2 host-device": "pass"}},
		{file: "R24-macvlan-v4-on-ra-lan.conf", tells: results{"NET-1 macvlan": advertises}, verdict: notConformant},
		{file: "R24-macvlan-v6-on-ra-lan.conf", whole: results{"NET-1 macvlan": advertises}, verdict: notConformant},
		{file: "R25-route-attributes.conflist", verdict: notConformant, tells: results{
			"RES-4 macvlan": "fail:and that of the pod has no mtu 1400 and no advmss 1360",
		}, whole: results{"CHK-6 macvlan": "fail:Expected Route"}},
		{file: "N01-jumbo.conf", tells: results{"pod-to-pod-across-nodes": "pass"}, verdict: notConformant},
		{file: "N02-bridge-of-the-lan-dhcp.conf", tells: results{"host-to-pod": "pass"}, verdict: notConformant},
		{file: "N02-bridge-without-ipam.yaml", tells: results{"host-to-pod": "pass"}, verdict: notConformant},
		{file: "N03-link-local-subnet.conf", tells: results{"pod-to-pod-same-node": "pass"}, verdict: notConformant},
		{file: "N05-passthru.conf", tells: results{
			"pod-to-pod-same-node": "not-applicable:gives its whole master to one pod",
			"ENV-6 macvlan":        "not-applicable:gives its whole master to one pod",
			"DEL-1 macvlan":        "pass", "TIM-1 host-local": "not-applicable:gives its whole master to one pod",
		}, verdict: notConformant},
		{file: "N06-master-in-pod.conf", unfit: ":2: macvlan looks in the pod for net1"},
		{file: "N08-mac.conf", tells: results{
			"pod-to-pod-same-node": "not-applicable:the file gives every pod the same MAC",
			"ENV-6 macvlan":        "not-applicable:the file gives every pod the same MAC",
			"DEL-1 macvlan":        "pass", "TIM-1 host-local": "not-applicable:the file gives every pod the same MAC",
		}, verdict: notConformant},
		{file: "N09-ptp-without-routes.conf", tells: results{
			"parallel-attach":         "pass",
			"host-to-pod":             "not-applicable:no route beyond their own network",
			"pod-to-pod-across-nodes": "not-applicable:no route beyond their own network",
			"external-to-pod":         "not-applicable:no route beyond their own network",
		}, verdict: notConformant},
		{file: "N10-bridge-without-gateway.conf", tells: results{
			"pod-to-pod-same-node": "pass", "reboot": "not-applicable:no route beyond their own network",
		}, verdict: notConformant},
		{file: "N07-loopback.conf", refuses: ":1: loopback sets lo up"},
	}
}

// fieldFile returns the path of a file of conflist/testdata/field or of field-more.txtar beside it.
func fieldFile(t *testing.T, name string) string {
	path := filepath.Join("conflist/testdata/field", name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	more, err := txtar.ParseFile("conflist/testdata/field-more.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range more.Files {
		if f.Name == name {
			path = filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

// TestField runs posted files: a first attachment, and the scenarios that are special for the file. With -whole-field
// everything runs on each.
func TestField(t *testing.T) {
	t.Parallel()
	runs := fieldRuns()
	if !*wholeField {
		runs = sharedOut(t, runs)
	}
	for _, tt := range runs {
		t.Run(tt.file, func(t *testing.T) {
			bin := plugins(t).plugins
			holdLab(t)
			suite, err := e2e.New(e2e.Options{
				Conflist: fieldFile(t, tt.file), BinDir: bin, Backend: backend(),
				Select: e2e.Selection{Quick: true},
			})
			if tt.refuses != "" || err != nil {
				if err == nil || !strings.Contains(err.Error(), tt.refuses) || tt.refuses == "" {
					t.Fatalf("got %v, want %q", err, tt.refuses)
				}
				return
			}
			err = tt.begin(t, suite)
			var unfit *cluster.UnfitError
			if errors.As(err, &unfit) && tt.unfit != "" && strings.Contains(err.Error(), tt.unfit) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tt.check(t, suite)
		})
	}
}

// begin makes the first attachment, and checks its outcome.
func (tt fieldRun) begin(t *testing.T, suite *e2e.Suite) error {
	if *wholeField || tt.first != "" {
		return suite.Prepare(t.Context())
	}
	refused, err := suite.TryAttachment(t.Context())
	if refused != nil {
		t.Errorf("first attachment: %s", refused.Reason)
	}
	return err
}

func (tt fieldRun) check(t *testing.T, suite *e2e.Suite) {
	units := suite.Units()
	want := map[string]string{}
	maps.Copy(want, tt.tells)
	if *wholeField {
		maps.Copy(want, tt.whole)
	} else {
		units = slices.DeleteFunc(units, func(u *e2e.Unit) bool { return want[u.Name()] == "" })
	}
	var group errgroup.Group
	group.SetLimit(4)
	for _, u := range units {
		group.Go(func() error {
			suite.RunWanting(t.Context(), u, func(r report.Result) bool { return tells(want[r.Name()], r) })
			return nil
		})
	}
	_ = group.Wait()
	r, err := suite.Finish()
	if err != nil {
		t.Fatal(err)
	}
	refused, found := "", 0
	for _, result := range r.Results {
		if result.ID == "first-attachment" {
			refused = result.Reason
		}
		wanted := want[result.Name()]
		if wanted == "" {
			continue
		}
		found++
		if !tells(wanted, result) {
			t.Errorf("%s: got %s: %s, want %s", result.Name(), result.Result, result.Reason, wanted)
		}
	}
	if found < len(want) {
		t.Errorf("got %d results of %v", found, want)
	}
	if (refused == "") != (tt.first == "") || !strings.Contains(refused, tt.first) {
		t.Errorf("first attachment: got %q, want %q", refused, tt.first)
	}
	if *wholeField && (r.Verdict != tt.verdict || len(r.Causes()) > mostCauses) {
		t.Errorf("got %s with %d causes, want %s", r.Verdict, len(r.Causes()), tt.verdict)
		for _, c := range r.Causes() {
			t.Log(c.Results[0].Name(), c.Results[0].Reason)
		}
	}
}

// tells reports whether a result is wanted: an outcome, or OUTCOME:REASON with a part of the reason.
func tells(wanted string, r report.Result) bool {
	outcome, reason, _ := strings.Cut(wanted, ":")
	return string(r.Result) == outcome && strings.Contains(r.Reason, reason)
}
