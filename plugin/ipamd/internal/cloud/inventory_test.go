package cloud

import (
	"net/netip"
	"testing"
)

func TestENI_Unmanaged(t *testing.T) {
	addr := netip.MustParseAddr("10.0.0.9")
	tags := func(value string) map[string]string { return map[string]string{NoManageTag: value} }
	for name, tt := range map[string]struct {
		eni  ENI
		want string
	}{
		"primary":           {ENI{Tags: tags("true"), Type: typeTrunk}, ""},
		"ordinary":          {ENI{Device: 1, Address: addr, Type: "interface"}, ""},
		"efa":               {ENI{Device: 1, Address: addr, Type: "efa"}, ""},
		"IPv6":              {ENI{Device: 1, Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8::/80")}}, ""},
		"tagged":            {ENI{Device: 1, Address: addr, Tags: tags("true")}, "the ENI is tagged " + NoManageTag},
		"tagged as managed": {ENI{Device: 1, Address: addr, Tags: tags("false")}, ""},
		"EFA-only":          {ENI{Device: 1, Type: typeEFAOnly}, "the ENI is EFA-only: it carries no IP packets"},
		"no address":        {ENI{Device: 1}, "the ENI has no IP address, as if it were EFA-only"},
		"trunk":             {ENI{Device: 1, Address: addr, Type: typeTrunk}, "the ENI is a trunk: its packets are those of branch ENIs"},
		"card":              {ENI{Device: 1, Card: 2, Address: addr}, "the ENI is on network card 2: only card 0 is used"},
		"card, device 0":    {ENI{Card: 1, Address: addr}, "the ENI is on network card 1: only card 0 is used"},
	} {
		if got := tt.eni.Unmanaged(); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
