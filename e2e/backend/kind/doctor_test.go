package kind

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProxyFailures(t *testing.T) {
	for text, want := range map[string]int{
		"":      0,
		"x 1\n": 0,
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total 3\n":                                                                                3,
		"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 2\nother 1\n":                                                      2,
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"} 1\nkubeproxy_sync_proxy_rules_nftables_sync_failures_total 1\n": 2,
	} {
		if got := proxyFailures(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestCacheEntry_attachment(t *testing.T) {
	entry := cacheEntry{
		ContainerID: "0123", IfName: "eth0", Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "ns"}, {"K8S_POD_NAME", "web"}},
		Result: []byte(`{"interfaces": [{"name": "eth0.host"}, {"name": "eth0", "sandbox": "/var/run/netns/cni-1"}]}`),
	}
	got, err := entry.attachment()
	if err != nil {
		t.Fatal(err)
	}
	type want struct{ Pod, ContainerID, IfName, Netns string }
	if diff := cmp.Diff(want{"ns/web", "0123", "eth0", "/var/run/netns/cni-1"}, want{got.Pod, got.ContainerID, got.IfName, got.Netns}); diff != "" {
		t.Errorf("attachment (-want +got):\n%s", diff)
	}
	entry.Result = []byte(`{"interfaces": [{"name": "eth0"}]}`)
	if _, err := entry.attachment(); err == nil || err.Error() != "its result names no sandbox for the pod's interface" {
		t.Errorf("got %v, want that the sandbox is missing", err)
	}
}
