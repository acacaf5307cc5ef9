package offer

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/conflist"
)

// TestDesk checks that each attachment gets its own address as long as there are any, and that the address returned
// last is used last.
func TestDesk(t *testing.T) {
	one, two, three := prefixes("10.0.0.1/24"), prefixes("10.0.0.2/24"), prefixes("10.0.0.3/24")
	all := [][]netip.Prefix{one, two, three}
	d := NewDesk()
	check := func(id string, want []netip.Prefix) {
		t.Helper()
		if got := d.Addresses("node/a", all, id, "eth0"); !cmp.Equal(got, want, cmp.Comparer(same)) {
			t.Errorf("%s: got %v, want %v", id, got, want)
		}
	}
	check("first", one)
	check("second", two)
	check("first", one)
	d.Return("node/a", "first", "eth0")
	check("third", three)
	check("fourth", one)
	check("fifth", nil)
	d.Return("node/a", "unknown", "eth0")
	check("fifth", nil)
	if got := d.Addresses("node/b", all, "first", "eth0"); !cmp.Equal(got, one, cmp.Comparer(same)) {
		t.Errorf("another node: got %v, want %v", got, one)
	}
}

func TestOffer(t *testing.T) {
	var capability, args, asked Offer
	capability.Bring(conflist.ByCapability, prefixes("10.0.0.1/24", "fd00::1/64"))
	args.Bring(conflist.ByArgs, prefixes("10.0.0.1/24", "fd00::1/64"))
	asked.Ask([]string{"mac", "dns", "own"}, "id", "eth0")
	want := []Offer{
		{Capabilities: map[string]any{"ips": []string{"10.0.0.1/24", "fd00::1/64"}}},
		{Args: [][2]string{{"IP", "10.0.0.1/24,fd00::1/64"}}},
		{Capabilities: map[string]any{
			"mac": "02:63:82:4c:0d:1e", "dns": map[string]any{
				"servers": []string{"192.0.2.53"}, "searches": []string{"asked.example"},
			},
		}},
	}
	want[2].Capabilities["mac"] = asked.Capabilities["mac"]
	if diff := cmp.Diff([]Offer{capability, args, asked}, want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
	var other Offer
	other.Ask([]string{"mac"}, "id", "eth1")
	if other.Capabilities["mac"] == asked.Capabilities["mac"] {
		t.Errorf("two interfaces are asked to have the MAC %v", other.Capabilities["mac"])
	}
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func same(a, b netip.Prefix) bool { return a == b }
