package cluster_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cnitest/cnitest/e2e/cluster"
)

func place() *cluster.Place {
	return &cluster.Place{Name: "node/a", Interfaces: map[string][]netip.Addr{
		"uplink":     {netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.0.2")},
		"management": {netip.MustParseAddr("10.1.0.1")},
	}}
}

func TestPlace_Address(t *testing.T) {
	for _, tt := range []struct {
		iface   string
		is4     bool
		want    string
		wantErr string
	}{
		{iface: "uplink", is4: true, want: "10.0.0.1"},
		{iface: "uplink", is4: false, want: "fd00::1"},
		{iface: "management", is4: true, want: "10.1.0.1"},
		{iface: "management", is4: false, want: "invalid IP", wantErr: "node/a: no IPv6 address on management"},
		{iface: "eth0", is4: true, want: "invalid IP", wantErr: "node/a: no IPv4 address on eth0"},
	} {
		t.Run(fmt.Sprintf("%s IPv4 %t", tt.iface, tt.is4), func(t *testing.T) {
			got, err := place().Address(tt.iface, tt.is4)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got.String() != tt.want || text != tt.wantErr {
				t.Errorf("got %s, %q, want %s, %q", got, text, tt.want, tt.wantErr)
			}
		})
	}
}

func TestPlace_Owns(t *testing.T) {
	for address, want := range map[string]bool{
		"10.0.0.1": true, "10.0.0.2": true, "fd00::1": true, "10.1.0.1": true, "::ffff:10.0.0.1": true,
		"10.0.0.3": false, "fd00::2": false,
	} {
		t.Run(address, func(t *testing.T) {
			if got := place().Owns(netip.MustParseAddr(address)); got != want {
				t.Errorf("got %t, want %t", got, want)
			}
		})
	}
}
