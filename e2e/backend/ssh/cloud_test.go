package ssh

import (
	"net/netip"
	"testing"

	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

func TestShare(t *testing.T) {
	for _, tt := range []struct {
		subnet   string
		i, nodes int
		want     string
		wantErr  string
	}{
		{"10.77.0.0/16", 0, 1, "10.77.128.0", ""},
		{"10.77.0.0/16", 0, 2, "10.77.128.0", ""},
		{"10.77.0.0/16", 1, 2, "10.77.192.0", ""},
		{"10.77.0.0/16", 2, 3, "10.77.192.0", ""},
		{"10.77.0.0/22", 1, 2, "10.77.3.0", ""},
		{"10.77.0.0/23", 1, 2, "", "subnet 10.77.0.0/23: want an IPv4 network with room for 2 clouds of /24 in its upper half"},
		{"fd00::/64", 0, 1, "", "subnet fd00::/64: want an IPv4 network with room for 1 clouds of /24 in its upper half"},
	} {
		t.Run(tt.subnet, func(t *testing.T) {
			got, err := share(netip.MustParsePrefix(tt.subnet), tt.i, tt.nodes)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != tt.wantErr || err == nil && got.String() != tt.want {
				t.Errorf("node %d of %d: got %s, %q, want %s, %q", tt.i, tt.nodes, got, text, tt.want, tt.wantErr)
			}
		})
	}
}

func TestPool(t *testing.T) {
	spec := &target.Cloud{ENIs: 3, Addresses: 4, Prefixes: 1}
	for _, tt := range []struct {
		name                string
		node                scenario.Node
		addresses, prefixes int
	}{
		{"all of the target", scenario.Node{}, 12, 3},
		{"what the scenario says", scenario.Node{Addresses: 5}, 5, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addresses, prefixes := pool(spec, tt.node)
			if addresses != tt.addresses || prefixes != tt.prefixes {
				t.Errorf("got %d addresses and %d prefixes, want %d and %d", addresses, prefixes, tt.addresses,
					tt.prefixes)
			}
		})
	}
}
