package agent_test

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/fault"
)

// TestLacks checks that a feature which no kernel has is lacking, and that features which all supported kernels have
// are not.
func TestLacks(t *testing.T) {
	c := start(t)
	for _, tt := range []struct {
		feature fault.Feature
		want    bool
	}{
		{fault.LinkKind("veth"), false},
		{fault.LinkKind("carrier-pigeon"), true},
		{fault.Feature{Kind: fault.QdiscFeature, Name: "carrier-pigeon"}, true},
		{fault.Feature{Kind: fault.SysctlFeature, Name: "net/ipv4/ip_forward"}, false},
		{fault.Feature{Kind: fault.SysctlFeature, Name: "net/carrier/pigeon"}, true},
		{fault.Feature{Kind: fault.GenericNetlinkFeature, Name: "nlctrl"}, false},
		{fault.Feature{Kind: fault.GenericNetlinkFeature, Name: "carrier-pigeon"}, true},
		{fault.Feature{Kind: fault.NftTableFeature, Name: "inet"}, false},
		{fault.Feature{Kind: fault.NftChainFeature, Name: "inet nat"}, false},
		{fault.Feature{Kind: fault.NftChainFeature, Name: "inet carrier-pigeon"}, true},
		{fault.Feature{Kind: fault.NftExpressionFeature, Name: "inet counter"}, false},
		{fault.Feature{Kind: fault.NftExpressionFeature, Name: "inet masq"}, false},
		{fault.Feature{Kind: fault.NftExpressionFeature, Name: "inet carrier-pigeon"}, true},
		{fault.Feature{Kind: fault.NftExpressionFeature, Name: "ip match carrier-pigeon 0"}, true},
	} {
		t.Run(tt.feature.Kind+" "+tt.feature.Name, func(t *testing.T) {
			got, err := c.Lacks(ctx(t), tt.feature)
			check(t, err)
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
