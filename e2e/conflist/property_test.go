package conflist

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	fakestore "github.com/containernetworking/plugins/plugins/ipam/host-local/backend/testing"
	"go4.org/netipx"
)

// walked limits the number of addresses of a range set that are checked.
const walked = 400

// TestPlan_property makes plans from random files for random nodes, and lets host-local's own allocator list the
// addresses that each node's conflist gives its pods.
func TestPlan_property(t *testing.T) {
	planned := 0
	const rounds = 1500
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 1))
		text, opts := randomFile(r)
		f, err := Parse("random", text)
		if err != nil {
			continue // ranges that overlap by chance
		}
		p, err := f.Plan(opts)
		if err != nil {
			continue
		}
		planned++
		if err := audit(f, p, opts); err != nil {
			t.Fatalf("seed %d: %v\n%s\n%s", seed, err, text, show(t, p))
		}
	}
	if planned < rounds/2 {
		t.Errorf("got %d plans of %d files, want at least half", planned, rounds)
	}
}

func randomFile(r *rand.Rand) ([]byte, PlanOptions) {
	plugin := map[string]any{"type": "macvlan"}
	if r.IntN(3) == 0 {
		plugin["type"] = "ptp"
	}
	ipam := map[string]any{"type": "host-local"}
	var sets [][]map[string]any
	for range 1 + r.IntN(3) {
		subnet := randomSubnet(r)
		set := []map[string]any{randomRange(r, subnet)}
		if r.IntN(4) == 0 {
			set = append(set, randomRange(r, subnet))
		}
		sets = append(sets, set)
	}
	if r.IntN(2) == 0 {
		for key, field := range sets[0][0] {
			ipam[key] = field
		}
		sets = sets[1:]
	}
	if len(sets) > 0 {
		ipam["ranges"] = sets
	}
	plugin["ipam"] = ipam
	text, _ := json.Marshal(map[string]any{"cniVersion": "1.0.0", "name": "random", "plugins": []any{plugin}})
	var opts PlanOptions
	for i := range 1 + r.IntN(5) {
		opts.Nodes = append(opts.Nodes, PlanNode{Name: fmt.Sprint("n", i), Addresses: r.IntN(3) * r.IntN(30)})
	}
	return text, opts
}

func randomSubnet(r *rand.Rand) netip.Prefix {
	if r.IntN(3) == 0 {
		a := netip.AddrFrom16([16]byte{0: 0xfd, 3: byte(r.IntN(4)), 6: byte(r.IntN(256)), 15: byte(r.IntN(256))})
		return netip.PrefixFrom(a, 48+r.IntN(78)).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))}),
		12+r.IntN(18)).Masked()
}

func randomRange(r *rand.Rand, subnet netip.Prefix) map[string]any {
	object := map[string]any{"subnet": subnet.String()}
	inside := func() netip.Addr {
		a := subnet.Addr()
		for range r.IntN(1 << min(12, a.BitLen()-subnet.Bits())) {
			a = a.Next()
		}
		return a
	}
	from, to := inside(), inside()
	if to.Less(from) {
		from, to = to, from
	}
	if first, _ := usable(subnet); from.Less(first) {
		from = first
	}
	if r.IntN(2) == 0 {
		object["rangeStart"] = from.String()
	}
	if r.IntN(2) == 0 {
		object["rangeEnd"] = to.String()
	}
	if r.IntN(6) == 0 {
		object["gateway"] = inside().String() // host-local has refused any other since v1.10.0
	}
	return object
}

// audit looks for addresses that two parts of the plan would use.
func audit(f *File, p *Plan, opts PlanOptions) error {
	owner := map[netip.Addr]string{}
	own := func(who string, prefixes ...netip.Prefix) error {
		for _, prefix := range prefixes {
			a := prefix.Addr()
			if other := owner[a]; other != "" {
				return fmt.Errorf("%s is %s's and %s's", a, other, who)
			}
			owner[a] = who
			inLAN := false
			for _, lan := range p.LAN {
				first, last := usable(lan)
				inLAN = inLAN || lan.Contains(a) && !a.Less(first) && !last.Less(a)
			}
			if !inLAN && who != "router" {
				return fmt.Errorf("%s of %s is not an address of the LAN", a, who)
			}
		}
		return nil
	}
	if err := errors.Join(own("router", p.Router...), own("LAN host", p.LANHost...)); err != nil {
		return err
	}
	for _, node := range p.Nodes {
		if err := own(node.Name, node.Addresses...); err != nil {
			return err
		}
	}
	var pods netipx.IPSetBuilder
	for _, s := range f.document.ipam(f.document.plugins()[0]).spans() {
		pods.AddPrefix(s.subnet)
	}
	podNetworks, err := pods.IPSet()
	if err != nil {
		return err
	}
	for _, external := range p.External {
		if podNetworks.OverlapsPrefix(external.Prefix) {
			return fmt.Errorf("external network %s is in the pods' subnets", external.Prefix)
		}
	}
	for i, node := range p.Nodes {
		size, err := walk(node, p.Routed, owner)
		if err != nil {
			return err
		}
		if size < walked && size != node.PoolSize || size == walked && node.PoolSize < walked {
			return fmt.Errorf("node/%s: pool is %d, but host-local gives %d", node.Name, node.PoolSize, size)
		}
		if want := opts.Nodes[i].Addresses; want > 0 && node.PoolSize > want {
			return fmt.Errorf("node/%s: pool is %d, want %d", node.Name, node.PoolSize, want)
		}
		for _, other := range p.Nodes[i+1:] {
			if err := disjoint(node, other); err != nil {
				return err
			}
		}
	}
	return nil
}

// disjoint returns an error if pods of two nodes can have addresses of the same network.
func disjoint(node, other NodePlan) error {
	for _, a := range node.PodPrefixes {
		for _, b := range other.PodPrefixes {
			if a.Overlaps(b) {
				return fmt.Errorf("pods of node/%s in %s and of node/%s in %s", node.Name, a, other.Name, b)
			}
		}
	}
	return nil
}

// walk takes all addresses that host-local can give on the node, and returns how many pods can have one at the same
// time.
func walk(node NodePlan, routed bool, owner map[netip.Addr]string) (int, error) {
	var list struct {
		Plugins []map[string]any
	}
	if err := json.Unmarshal(node.Conflist, &list); err != nil {
		return 0, err
	}
	list.Plugins[0]["name"], list.Plugins[0]["cniVersion"] = "random", "1.0.0"
	data, err := json.Marshal(list.Plugins[0])
	if err != nil {
		return 0, err
	}
	config, _, err := allocator.LoadIPAMConfig(data, "")
	if err != nil {
		return 0, fmt.Errorf("host-local refuses %s: %w", data, err)
	}
	smallest := walked
	for i := range config.Ranges {
		size := 0
		iter, err := allocator.NewIPAllocator(&config.Ranges[i], fakestore.NewFakeStore(nil, map[string]net.IP{}),
			i).GetIter()
		if err != nil {
			return 0, err
		}
		for ipNet, _ := iter.Next(); ipNet != nil && size < walked; ipNet, _ = iter.Next() {
			size++
			prefix, _ := netipx.FromStdIPNet(&net.IPNet{IP: ipNet.IP, Mask: ipNet.Mask})
			if routed && !within(prefix, node.PodPrefixes[0]) && !containsPrefix(node.PodPrefixes, prefix) {
				return 0, fmt.Errorf("node/%s gives %s outside of its %s", node.Name, ipNet, join(node.PodPrefixes))
			}
			a, _ := netipx.FromStdIP(ipNet.IP)
			if other := owner[a]; other != "" {
				return 0, fmt.Errorf("node/%s gives a pod %s, which is %s's", node.Name, a, other)
			}
			owner[a] = "a pod of " + node.Name
		}
		smallest = min(smallest, size)
	}
	return smallest, nil
}

func containsPrefix(list []netip.Prefix, p netip.Prefix) bool {
	for _, other := range list {
		if within(p, other) {
			return true
		}
	}
	return false
}
