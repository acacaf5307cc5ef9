package ssh

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// uplinkOf returns a machine's interface on the underlay: the one with the given name, or the one with an address in
// the underlay's network. Names differ from machine to machine.
func (b *Backend) uplinkOf(m *machine) (agent.Link, error) {
	networks, err := b.underlay()
	if err != nil {
		return agent.Link{}, err
	}
	var seen []string
	for _, link := range m.links {
		on := slices.ContainsFunc(link.Prefixes(), func(own netip.Prefix) bool {
			return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(own.Addr()) })
		})
		if on && (b.options.Uplink == "" || b.options.Uplink == link.Name) {
			return link, nil
		}
		if link.Name != "lo" {
			seen = append(seen, strings.TrimSpace(link.Name+" "+strings.Join(link.Addresses, " ")))
		}
	}
	return agent.Link{}, fmt.Errorf("%s: no interface%s has an address in %s (--uplink-subnet); it has %s", m.name,
		named(b.options.Uplink), list(networks),
		strings.Join(seen, ", "))
}

func named(name string) string {
	if name == "" {
		return ""
	}
	return " " + name
}

// underlay returns the networks by which uplinks are recognised.
func (b *Backend) underlay() ([]netip.Prefix, error) {
	if b.options.Subnet.IsValid() {
		return []netip.Prefix{b.options.Subnet.Masked()}, nil
	}
	plan, err := b.options.Conflist.Plan(conflist.PlanOptions{Nodes: []conflist.PlanNode{{Name: scenario.NodeName(0)}}})
	if err != nil {
		return nil, err
	}
	if plan.Routed {
		return nil, fmt.Errorf("%s does not say the network of the nodes; name it with --uplink-subnet",
			b.options.Conflist.Path)
	}
	return plan.LAN, nil
}

// management returns the machine's addresses on interfaces other than its uplink, in their order.
func (m *machine) management(uplink string) []netip.Addr {
	var all []netip.Addr
	for _, link := range m.links {
		if link.Name == uplink || link.Name == "lo" {
			continue
		}
		for _, prefix := range link.Prefixes() {
			all = append(all, prefix.Addr())
		}
	}
	return all
}

func list[T fmt.Stringer](all []T) string {
	words := make([]string, 0, len(all))
	for _, element := range all {
		words = append(words, element.String())
	}
	return strings.Join(words, ", ")
}
