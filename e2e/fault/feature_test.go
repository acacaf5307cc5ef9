package fault

import "testing"

func TestSysctlFeature(t *testing.T) {
	for name, want := range map[string]string{
		"net/ipv4/ip_forward":                    "the setting net.ipv4.ip_forward",
		"net/ipv4/conf/br.100/route_localnet":    "the setting net.ipv4.conf.lo.route_localnet",
		"net/ipv6/neigh/eth0/gc_stale_time":      "the setting net.ipv6.neigh.lo.gc_stale_time (CONFIG_IPV6)",
		"net/bridge/bridge-nf-call-iptables":     "the setting net.bridge.bridge-nf-call-iptables (CONFIG_BRIDGE_NETFILTER)",
		"net/ipv4/conf/br/100/route_localnet":    "",
		"net/ipv6/conf/eno1/100/20/disable_ipv6": "",
	} {
		got := ""
		if f := sysctlFeature(name); f != nil {
			got = f.String()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
