package kind

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProxyFailures(t *testing.T) {
	for text, want := range map[string]int{
		"":      0,
		"x 1\n": 0,
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total 3\n":                           3,
		"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 2\nother 1\n": 2,
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"} " +
			"1\nkubeproxy_sync_proxy_rules_nftables_sync_failures_total 1\n": 2,
	} {
		if got := proxyFailures(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestNode_findings(t *testing.T) {
	const device = "*address*) echo '2: eth0    inet 192.0.2.1/24 brd 192.0.2.255 scope global eth0' ;;\n"
	for _, tt := range []struct {
		name, docker string
		want         []Finding
	}{
		{
			name: "as it should be",
			docker: device + "*curl*) ;; *ip_forward) echo 1 ;; *all/rp_filter) echo 2 ;; *eth0/rp_filter) echo 1 ;; " +
				"*arp_ignore) echo 0 ;;",
			want: []Finding{
				{OK: true, What: "node worker forwards"},
				{OK: true, What: "node worker answers ARP for all its addresses"},
				{OK: true, What: "node worker accepts packets that arrive on another link"},
				{OK: true, What: "kube-proxy on worker writes its rules"},
			},
		},
		{
			name: "the device's own settings",
			docker: device + "*curl*) ;; *ip_forward) echo 1 ;; *all/rp_filter) echo 0 ;; *eth0/rp_filter) echo 1 ;; " +
				"*all/arp_ignore) echo 0 ;; *eth0/arp_ignore) echo 2 ;;",
			want: []Finding{
				{OK: true, What: "node worker forwards"},
				{What: "node worker answers ARP for all its addresses"},
				{What: "node worker accepts packets that arrive on another link"},
				{OK: true, What: "kube-proxy on worker writes its rules"},
			},
		},
		{
			name: "nothing can be read", docker: device + "*) echo no >&2; exit 1 ;;",
			want: []Finding{
				{What: "node worker forwards", Cost: "it could not be read: docker exec worker: exit status 1: no"},
				{What: "node worker answers ARP for all its addresses", Cost: "it could not be read: docker exec worker: exit status 1: no"},
				{What: "node worker accepts packets that arrive on another link", Cost: "it could not be read: docker exec worker: exit status 1: no"},
				{What: "kube-proxy on worker writes its rules", Cost: "it could not be asked: docker exec worker: exit status 1: no"},
			},
		},
		{
			name:   "an empty answer",
			docker: device + "*curl*) ;; *rp_filter) ;; *) echo 1 ;;",
			want: []Finding{
				{OK: true, What: "node worker forwards"},
				{OK: true, What: "node worker answers ARP for all its addresses"},
				{
					What: "node worker accepts packets that arrive on another link",
					Cost: `it could not be read: conf/all/rp_filter: strconv.Atoi: parsing "": invalid syntax`,
				},
				{OK: true, What: "kube-proxy on worker writes its rules"},
			},
		},
		{
			name: "no device", docker: "*) echo no >&2; exit 1 ;;",
			want: []Finding{{What: "node worker", Cost: "which device has 192.0.2.1 could not be read: docker exec " +
				"worker: exit status 1: no"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			program(t, "docker", "case $* in\n"+tt.docker+"\nesac\n")
			n := &node{name: "worker", container: "worker", addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
			got := n.findings(t.Context())
			for i := range got {
				// The meaning of a setting does not matter in this test.
				if got[i].OK || !strings.Contains(got[i].Cost, "could not be") {
					got[i].Cost = ""
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
