package cni

import (
	"fmt"
	"testing"
)

// FuzzParseResult checks that whatever a plugin prints gives a result or an error.
func FuzzParseResult(f *testing.F) {
	f.Add([]byte(`{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/a", "mac": "0"}],
		"ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 0}],
		"routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400, "table": 100}], "dns": {"nameservers": ["1.1.1.1"]}}`))
	f.Add([]byte(`{"ip4": {"ip": "10.0.0.2/24", "routes": [{"dst": "0.0.0.0/0"}]}}`))
	f.Add([]byte(`{"cniVersion": "0.4.0", "ips": [{"version": "6", "address": "fd00::2/64"}]}`))
	for _, list := range []string{"interfaces", "ips", "routes"} {
		f.Add(fmt.Appendf(nil, `{"cniVersion": "0.4.0", %q: [null]}`, list))
		f.Add(fmt.Appendf(nil, `{"cniVersion": "1.0.0", %q: [null]}`, list))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseResult(data)
		if (got == nil) == (err == nil) {
			t.Fatalf("got %v, %v, want one of the two", got, err)
		}
		if got == nil {
			return
		}
		for _, i := range got.Interfaces {
			_ = i.Name
		}
		for _, ip := range got.IPs {
			_ = ip.Address.String()
		}
		for _, route := range got.Routes {
			_ = route.Dst.String()
		}
	})
}
