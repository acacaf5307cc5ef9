package offer

import (
	"encoding/json"
	"testing"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
)

func TestOffer_Check(t *testing.T) {
	const good = `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": "/x", ` +
		`"mac": "02:00:00:00:00:01", "pciID": "0000:3b:02.1"}], "dns": {"nameservers": ["192.0.2.53"], "search": ["asked.example"]}}`
	const guid = "80:00:00:48:fe:80:00:00:00:00:00:00:c2:63:01:02:00:03:04:01"
	ask := func(name string, value any) Offer { return Offer{Capabilities: map[string]any{name: value}} }
	var dns Offer
	dns.Ask([]string{"dns"}, "id", "eth0")
	for name, tt := range map[string]struct {
		offer            Offer
		result, hardware string
		want             string
	}{
		"mac":                  {ask("mac", "02:00:00:00:00:01"), good, "02:00:00:00:00:01", ""},
		"mac in the kernel":    {ask("mac", "02:00:00:00:00:01"), good, "02:00:00:00:00:09", "the capability mac asks for 02:00:00:00:00:01, and eth0 has 02:00:00:00:00:09"},
		"mac of the result":    {ask("mac", "02:00:00:00:00:09"), good, "02:00:00:00:00:09", "the capability mac asks for 02:00:00:00:00:09, and the result says 02:00:00:00:00:01"},
		"guid":                 {ask("infinibandGUID", "c2:63:01:02:00:03:04:01"), good, guid, ""},
		"another guid":         {ask("infinibandGUID", "c2:63:01:02:00:03:04:ff"), good, guid, "the capability infinibandGUID asks for c2:63:01:02:00:03:04:ff, and eth0 has the hardware address " + guid},
		"guid of an Ethernet":  {ask("infinibandGUID", "c2:63:01:02:00:03:04:ff"), good, "02:00:00:00:00:01", ""},
		"device":               {ask("deviceID", "0000:3b:02.1"), good, "", ""},
		"another device":       {ask("deviceID", "0000:3b:02.2"), good, "", "the capability deviceID asks for 0000:3b:02.2, and the result has the pciID 0000:3b:02.1"},
		"device of old result": {ask("deviceID", "0000:3b:02.2"), `{"cniVersion": "1.0.0"}`, "", ""},
		"dns":                  {dns, good, "", ""},
		"no dns": {
			dns, `{"cniVersion": "1.0.0"}`, "", "the capability dns asks for the server 192.0.2.53, and the result has []\n" +
				"the capability dns asks for the search domain asked.example, and the result has []",
		},
		"rates": {ask("bandwidth", map[string]any{}), `{"cniVersion": "1.0.0"}`, "", ""},
	} {
		result, err := cni.ParseResult(json.RawMessage(tt.result))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := tt.offer.Check(result, "eth0", tt.hardware); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// The args of a file keep what else they have, and the file stays as it is.
func TestOffer_ArgsOf(t *testing.T) {
	var o Offer
	o.Bring(conflist.ByConfig, prefixes("10.0.0.1/24"))
	config := map[string]any{"args": map[string]any{"cni": map[string]any{"ips": []any{"10.0.0.9/24"}, "mac": "m"}, "x": 1}}
	for _, tt := range []struct {
		config map[string]any
		want   string
	}{
		{config, `{"cni":{"ips":["10.0.0.1/24"],"mac":"m"},"x":1}`},
		{nil, `{"cni":{"ips":["10.0.0.1/24"]}}`},
	} {
		if got, _ := json.Marshal(o.ArgsOf(tt.config)); string(got) != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
	if got, _ := json.Marshal(config); string(got) != `{"args":{"cni":{"ips":["10.0.0.9/24"],"mac":"m"},"x":1}}` {
		t.Errorf("got the configuration %s, want it as it was", got)
	}
}
