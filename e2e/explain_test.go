package e2e_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/report"
)

// explained is a chain that makes a pod unreachable, and the sentence that says where and why.
type explained struct {
	name     string
	chain    []string
	scenario string
	want     string
}

// childAndParent returns the explanation for a macvlan and its node.
func childAndParent(pod string) string {
	return "eth0 of " + pod + " is a macvlan on eno1, and the kernel keeps such a device and its parent apart: " +
		"frames between a node and its own pods " +
		"need a device of their own on the node, as the chained plugins route and veth-to-host make"
}

// unreachable returns chains of the reachability family.
func unreachable() []explained {
	ptpWith := func(fault string) []string { return []string{ptp, broken(fault)} }
	return []explained{
		{
			"TCP only", afterRoute("drops-tcp"), "pod-to-pod-same-node",
			`the request was last seen entering eth0 of pod/right, and no reply left pod/right; ` +
				`pod/right dropped the request: rule "meta l4proto tcp drop" of the nftables chain "ip broken chain"`,
		},
		{
			"large packets only", afterRoute("drops-large"), "full-mtu",
			`the request of 1500 bytes was last seen entering eth0 of pod/left, and no reply of 1500 bytes left ` +
				`pod/left; ` +
				`pod/left dropped the request: rule "meta length > 1400 drop" of the nftables chain "ip broken chain"`,
		},
		{
			"only out of the pod", afterRoute("drops-incoming"), "host-to-pod",
			`the request was last seen entering eth0 of pod/server, and no reply left pod/server; ` +
				`pod/server dropped the request: rule "ct state new drop" of the nftables chain "ip broken chain"`,
		},
		{
			"only into the pod", afterRoute("drops-outgoing"), "host-to-pod",
			`the request never left pod/server; ` +
				`pod/server dropped the request: rule "ct state new drop" of the nftables chain "ip broken chain"`,
		},
		{
			"one family only",
			[]string{dual(macvlan), route, broken("drops-ipv6")},
			"pod-to-pod-same-node",
			`the request never left pod/left; ` +
				`pod/left sends to fd00:20::5 by route "fd00:20::/64 dev eth0 table main" ` +
				`and asked there for the MAC of fd00:20::5, which nobody answered; ` +
				`the question was last seen entering eth0 of pod/right, which has that address ` +
				`and dropped the question: rule "drop" of the nftables chain "ip6 broken chain"`,
		},
		{
			"the other pods", afterRoute("breaks-others"), "full-mtu",
			`the request of 1500 bytes never left node/a; ` +
				`node/a sends to 192.168.1.2 by route "192.168.0.0/16 dev eno1 src 192.168.0.2 table main" ` +
				`and asked there for the MAC of 192.168.1.2, which nobody answered; ` +
				childAndParent("pod/left"),
		},
		{
			"no way from the node",
			[]string{macvlan},
			"host-to-pod",
			`the request never left node/a; ` +
				`node/a sends to 192.168.1.2 by route "192.168.0.0/16 dev eno1 src 192.168.0.2 table main" ` +
				`and asked there for the MAC of 192.168.1.2, which nobody answered; ` +
				childAndParent("pod/server"),
		},
		{
			"no way from the node, two families",
			[]string{strings.Replace(macvlan, pool, dualPool, 1), naive},
			"host-to-pod",
			`the request never left node/a; ` +
				`node/a sends to fd00:20::4 by route "fd00:20::/64 dev eno1 table main" ` +
				`and asked there for the MAC of fd00:20::4, which nobody answered; ` +
				childAndParent("pod/server"),
		},
		{
			"no way back",
			[]string{strings.Replace(macvlan, `, "routes": [{"dst": "0.0.0.0/0"}]`, "", 1), route},
			"external-to-pod",
			`the request was last seen entering eth0 of pod/server, and no reply left pod/server; ` +
				`the reverse path filter of pod/server (rp_filter 2 on eth0) dropped it: ` +
				`it has no route back to 192.0.2.2, none of its routes matches (network is unreachable)`,
		},
		{
			"macvlans kept apart",
			[]string{strings.Replace(macvlan, `"macvlan"`, `"macvlan", "mode": "private"`, 1)},
			"pod-to-pod-same-node",
			`the request never left pod/left; ` +
				`pod/left sends to 192.168.1.3 by route "192.168.0.0/16 dev eth0 src 192.168.1.2 table main" ` +
				`and asked there for the MAC of 192.168.1.3, which nobody answered; ` +
				`the question did not reach pod/right, which has that address: ` +
				`eth0 of pod/left and eth0 of pod/right are macvlans in a mode, private or vepa, that keeps the children of one parent apart`,
		},
		{
			"wrong neighbour", afterRoute("wrong-neighbour"), "large-transfer",
			`the request was last seen leaving eno1 of node/a; ` +
				`node/a sent it to the MAC MAC, as its permanent neighbour entry for 192.168.1.2 on eno1.host says, ` +
				`and pod/near has that address on eth0 with the MAC MAC`,
		},
		{
			"stale neighbour",
			[]string{macvlan, broken("silent"), route},
			"ip-reuse",
			`the request was last seen leaving eno1 of node/a; ` +
				`pod/sibling sent it to the MAC MAC, as its neighbour entry for 192.168.1.3 on eth0 says, ` +
				`and pod/second has that address on eth0 with the MAC MAC`,
		},
		{
			"missing neighbour", afterRoute("ignores-arp"), "pod-to-pod-same-node",
			`the request never left pod/left; ` +
				`pod/left sends to 192.168.1.3 by route "192.168.0.0/16 dev eth0 src 192.168.1.2 table main" ` +
				`and asked there for the MAC of 192.168.1.3, which nobody answered; ` +
				`the question was last seen entering eth0 of pod/right, which has that address and does not answer, as its setting arp_ignore 8 says`,
		},
		{
			"wrong route", ptpWith("wrong-route"), "pod-to-pod-same-node",
			`the request was last seen entering VETH of node/a; ` +
				`node/a sends to 10.23.0.3 by route "10.23.0.3 dev eno1 table main" ` +
				`and asked there for the MAC of 10.23.0.3, which nobody answered; ` +
				`the question did not reach pod/right, which has that address`,
		},
		{
			"reverse path filter", ptpWith("strict-way-back"), "pod-to-pod-same-node",
			`the request never left pod/left; ` +
				`pod/left sends to 10.23.0.3 by route "10.23.0.0/16 via 10.23.0.1 dev eth0 src 10.23.0.2 table main" ` +
				`and asked there for the MAC of 10.23.0.1, which nobody answered; ` +
				`the question was last seen entering VETH of node/a, which has that address; ` +
				`the reverse path filter of node/a (rp_filter 1 on VETH) dropped it: ` +
				`its own way to 10.23.0.2 is route "10.23.0.2 dev eno1 table main"`,
		},
		{
			"blackhole route", afterRoute("blackhole-route"), "large-transfer",
			`the request never left node/a; ` +
				`node/a has no route to 192.168.1.2: route "blackhole 192.168.1.2 table main" decides`,
		},
		{
			"unreachable rule", ptpWith("unreachable-rule"), "pod-to-pod-same-node",
			`the request never left pod/left; ` +
				`pod/left sends to 10.23.0.3 by route "10.23.0.0/16 via 10.23.0.1 dev eth0 src 10.23.0.2 table main" ` +
				`and asked there for the MAC of 10.23.0.1, which nobody answered; ` +
				`the question was last seen entering VETH of node/a, which has that address; ` +
				`the reverse path filter of node/a (rp_filter 2 on VETH) dropped it: ` +
				`it has no route back to 10.23.0.2, policy rule "100: from all to 10.23.0.2 unreachable" decides`,
		},
		{
			"firewall of the node", ptpWith("drops-forwarded"), "pod-to-pod-same-node",
			`the request was last seen entering VETH of node/a; ` +
				`node/a dropped the request: rule "ip daddr 10.23.0.3 drop" of the nftables chain "ip broken chain"`,
		},
		{
			"wrong source",
			[]string{bridge, broken("masquerades")},
			"external-to-pod",
			`the request had the source 192.0.2.3 when it was last seen entering eno1 of node/a, and 10.22.0.1 ` +
				`leaving cni0 of node/a; ` +
				`node/a translated it: rule "masquerade" of the nftables chain "ip broken chain"`,
		},
		{
			"an MTU larger than that of the way",
			[]string{strings.Replace(ptp, `"ptp"`, `"ptp", "mtu": 9000`, 1)},
			"full-mtu",
			`the request of 9000 bytes never left pod/left; ` +
				`pod/left has learned that on its way to 10.23.1.2, route "default via 10.23.0.1 dev eth0 table main", packets of more than 1500 bytes do not pass`,
		},
		{
			"two nics",
			[]string{macvlan, naive},
			"two-nic-node",
			`the request was last seen entering eth0 of pod/server, a reply was last seen entering eth0 of ` +
				`host/router; ` +
				`host/router has no route to 10.0.2.10, the source of the request: none of its routes matches (network is unreachable)`,
		},
		{
			"stalls", afterRoute("stalls"), "large-transfer",
			`the request was last seen entering eth0 of pod/near, and no reply left pod/near; ` +
				`pod/near dropped the request: rule "quota over 8388608 bytes drop" of the nftables chain "ip broken chain"`,
		},
	}
}

// TestExplain compares for each chain the exact sentence that follows the error.
func TestExplain(t *testing.T) {
	t.Parallel()
	compareSentences(t, sharedOut(t, unreachable()), backend())
}

// TestExplain_without_a_fabric does the same for a backend that cannot watch the network between its machines, like ssh
// and kind.
func TestExplain_without_a_fabric(t *testing.T) {
	t.Parallel()
	var some []explained
	for _, tt := range unreachable() {
		if slices.Contains([]string{"TCP only", "firewall of the node", "no way from the node", "wrong source"},
			tt.name) {
			some = append(some, tt)
		}
	}
	compareSentences(t, sharedOut(t, some), bareBackend{backend()})
}

// TestExplain_flow checks that a flow without a single reply is explained like a probe.
func TestExplain_flow(t *testing.T) {
	holdLab(t)
	const oneFlow = `{apiVersion: cnitest/v1alpha1, kind: Scenario, name: one-flow, description: A flow., features: [HostToPod],
nodes: [{name: a}], pods: [{name: server, node: a, listen: [{protocol: udp, port: 8080}]}],
steps: [{add: pod/server}, {flows: {from: node/a, to: pod/server, protocol: udp, port: 8080}}, {wait: 200ms},
  {stop: {lost: 0}}]}`
	suite := newSuite(t, e2e.Options{
		Conflist: writeConflist(t, "", macvlan),
		Select:   e2e.Selection{Scenarios: fstest.MapFS{"one-flow.yaml": {Data: []byte(oneFlow)}}},
	})
	want := childAndParent("pod/server")
	result := suite.RunScenarioWanting(context.Background(), suite.Scenarios()[0], func(r report.Result) bool {
		return strings.HasSuffix(r.Reason, want)
	})
	flow, why, _ := strings.Cut(result.Reason, "; ")
	_, why, _ = strings.Cut(why, "; ") // how long the silence was, and then where the packets end
	if !strings.Contains(flow, "flow node/a to pod/server 192.168.") || !strings.HasSuffix(why, want) {
		t.Errorf("got %s: %s\nwant the flow, and %s", result.Result, result.Reason, want)
	}
	if evidenceText(result, "path of the packets") == "" {
		t.Errorf("got evidence %v, want the path of the packets", result.Evidence)
	}
}

// bareBackend makes clusters of which only the nodes are known.
type bareBackend struct{ cluster.Backend }

func (b bareBackend) Start(ctx context.Context, req cluster.Request) (cluster.Cluster, error) {
	c, err := b.Backend.Start(ctx, req)
	return bareCluster{c}, err
}

type bareCluster struct{ cluster.Cluster }

func (bareCluster) Fabric() *cluster.Place { return nil }

func compareSentences(t *testing.T, all []explained, backend cluster.Backend) {
	t.Helper()
	b := plugins(t)
	results := make([]report.Result, len(all))
	var wait sync.WaitGroup
	for i, tt := range all {
		suite, err := e2e.New(e2e.Options{
			Conflist: writeConflist(t, "", tt.chain...), BinDir: b.plugins,
			Select: e2e.Selection{Names: tt.scenario}, Backend: backend,
		})
		if err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			defer enterLab()()
			for _, s := range suite.Scenarios() {
				results[i] = suite.RunScenarioWanting(context.Background(), s, tt.explains)
			}
		})
	}
	wait.Wait()
	for i, tt := range all {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, sentence(results[i])); diff != "" {
				t.Errorf("sentence of %q (-want +got):\n%s\n%s", results[i].Reason, diff, evidenceText(results[i],
					"path of the packets"))
			}
		})
	}
}

// explains reports whether a result has the wanted sentence.
func (tt explained) explains(r report.Result) bool { return sentence(r) == tt.want }

// sentence returns what follows the error in a result.
func sentence(r report.Result) string {
	_, text, _ := strings.Cut(r.Reason, "; ")
	return normal(text)
}

// evidenceText returns the text under a title.
func evidenceText(result report.Result, title string) string {
	for _, e := range result.Evidence {
		if e.Title == title {
			return e.Text
		}
	}
	return ""
}

var (
	hardware = regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`)
	veths    = regexp.MustCompile(`\bveth[0-9a-f]{8}\b`)
)

// normal replaces names and numbers that differ each time.
func normal(text string) string {
	return veths.ReplaceAllString(hardware.ReplaceAllString(text, "MAC"), "VETH")
}
