package chain

import (
	"encoding/json"
	"fmt"
	"testing"
)

// FuzzPrevResult checks that every previous result, of a plugin or from a cache that was damaged, is read or refused:
// DEL must not end with a panic.
func FuzzPrevResult(f *testing.F) {
	f.Add([]byte(`{"cniVersion": "1.1.0", "prevResult": {"interfaces": [{"name": "eth0", "mac": "0"}],
		"ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]}}`))
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		for _, list := range []string{"interfaces", "ips", "IPs", "routes", "ip4", "dns"} {
			for _, value := range []string{`null`, `[null]`, `{}`, `[{}]`} {
				f.Add(fmt.Appendf(nil, `{"prevResult": {"cniVersion": %q, %q: %s}}`, version, list, value))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Config
		if json.Unmarshal(data, &c) != nil {
			return
		}
		result, err := c.PrevResult()
		if err != nil || result == nil {
			return
		}
		for _, ip := range result.IPs {
			if i := ip.Interface; i != nil {
				_ = result.Interfaces[*i].Name
			}
			_ = ip.Address.String()
		}
		for _, route := range result.Routes {
			_ = route.Dst.String()
		}
		if _, err := result.GetAsVersion(c.Version()); err != nil {
			return
		}
		if _, err := json.Marshal(result); err != nil {
			t.Errorf("%v", err)
		}
	})
}
