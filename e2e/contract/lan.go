package contract

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// onLAN returns the requirements about a pod and the machines around it on the underlay.
func onLAN() []Requirement {
	return []Requirement{
		{
			ID: "NET-1", Level: Should, Section: "failure mode", Roles: inChain(), Covers: []string{"K05"},
			Text: "A pod has the addresses and routes of the result, and gets none from a router advertisement.",
			Why: "An address that no result lists is in no policy and in no status, and any machine on the LAN can " +
				"become the pod's default gateway (CVE-2020-10749).",
			How: "Sends a router advertisement into the underlay of an attached pod: half a second later the pod " +
				"has no other addresses and routes than before. A chained plugin is checked if those before it " +
				"pass.",
			check: checkIgnoresAdvertisements,
		},
		{
			ID: "NET-2", Level: Should, Section: "failure mode", Roles: inChain(),
			Text: "A pod answers ARP only for its own addresses.",
			Why: "A machine that asks for another address would get the pod's MAC, and the owner of the address " +
				"becomes unreachable.",
			How: "With a pod attached that routes packets for others, and has another interface, a machine on the " +
				"underlay asks for two addresses that nobody has, to one of which the pod's other interface leads: " +
				"nobody answers.",
			check: checkAnswersForItself, long: true,
		},
		{
			ID: "NET-3", Level: Should, Section: "failure mode", Roles: []Role{Main},
			Text: "The pod's interface may have any name that the kernel allows.",
			Why: "Interfaces on VLANs have names with a dot, which is a separator in the names of sysctls, and pods " +
				"often have an interface of the same name as one of the node.",
			How:   "ADD with the name net1.100, and with that of the node's uplink.",
			check: checkAnyName,
		},
		{
			ID: "NET-4", Level: Should, Section: "failure mode", Roles: []Role{Main},
			Text: "A pod's IPv6 addresses survive that its interface goes down and up.",
			Why: "Somebody sets the interface down and up to change or refresh it, and the kernel removes all IPv6 " +
				"addresses unless keep_addr_on_down is set.",
			How:   "Sets the interface of an attached pod down and up: it has the same addresses as before.",
			check: checkKeepsAddresses,
		},
	}
}

// besideOthers returns a bench with the machines around the nodes, and the machine with a name.
func (t *trial) besideOthers(ctx context.Context, host string) (*bench, *cluster.Place, error) {
	if t.subject.lab.Request.Target != nil && t.subject.lab.Request.Target.Cloud != nil {
		return nil, nil, notApplicable("a cloud's network is routed: pods share no LAN with others")
	}
	b, err := t.bench(ctx, func(req *cluster.Request) { req.Alone = false })
	if err != nil {
		return nil, nil, err
	}
	place, ok := b.cluster.Hosts()[host]
	if !ok {
		return nil, nil, notApplicable("the lab has no host/%s", host)
	}
	return b, place, nil
}

// advertised is the prefix in advertisements, from the range for documentation (RFC 3849).
const advertised = "2001:db8:5::/64"

func checkIgnoresAdvertisements(ctx context.Context, t *trial) error {
	b, router, err := t.besideOthers(ctx, "router")
	if err != nil {
		return err
	}
	// The subject is not to blame for what the plugins before it permit.
	bare, err := b.pod(ctx, "bare")
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	call, err := b.add(ctx, p)
	if err != nil {
		return err
	}
	take := func() (snapshot.State, error) {
		kinds := []string{snapshot.Address, snapshot.Route}
		return b.take(ctx, kinds, []*pod{bare, p})
	}
	before, err := take()
	if err != nil {
		return err
	}
	links, err := router.Agent.Links(ctx, router.Netns)
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Kind != "veth" {
			continue
		}
		// Both are tried: the interface on the underlay, and the one with the route.
		if err := router.Agent.Advertise(ctx, agent.AdvertiseArgs{
			Netns: router.Netns, Interface: l.Name,
			Advertisement: probe.Advertisement{Prefix: advertised, RouterLifetime: 30 * time.Minute},
		}); err != nil {
			return err
		}
	}
	// No reaction is expected; the kernel needs milliseconds to act on an advertisement.
	if err := timing.Sleep(ctx, 2*snapshot.Quiet); err != nil {
		return err
	}
	after, err := take()
	if err != nil {
		return err
	}
	changes := added(snapshot.Diff(before, after))
	if onlyOfBare := onlyOf(slices.Clone(changes), bare.name); len(onlyOfBare) > 0 && t.subject.Role != Main {
		return notApplicable("a pod takes addresses and routes before it comes to %s: %s", t.subject.Type,
			first(onlyOfBare))
	}
	if taken := onlyOf(changes, p.name); len(taken) > 0 {
		t.wrong([]cni.Call{call}, "the pod takes from a router advertisement what no result lists: %s", first(taken))
	}
	return nil
}

// nobodys returns up to two addresses of a network that no machine of the lab has.
func (b *bench) nobodys(ctx context.Context, network netip.Prefix,
	places ...*cluster.Place,
) (addrs []netip.Addr, err error) {
	taken := map[netip.Addr]bool{}
	for _, place := range places {
		links, err := place.Agent.Links(ctx, place.Netns)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			for _, p := range l.Prefixes() {
				taken[p.Addr()] = true
			}
		}
	}
	// The search begins at the end, since allocators begin at the start.
	for addr := netipx.PrefixLastIP(network).Prev(); network.Contains(addr) && len(addrs) < 2; addr = addr.Prev() {
		if !taken[addr] {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

func checkAnswersForItself(ctx context.Context, t *trial) error {
	b, lan, err := t.besideOthers(ctx, "lan")
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	device, network, err := underlayOf(ctx, lan)
	if err != nil {
		return err
	}
	if !network.IsValid() {
		return notApplicable("the underlay has no IPv4, and so no ARP")
	}
	places := []*cluster.Place{&b.node.Place, lan}
	for _, host := range b.cluster.Hosts() {
		places = append(places, host)
	}
	addrs, err := b.nobodys(ctx, network, places...)
	if err != nil {
		return err
	}
	if len(addrs) == 0 {
		return notApplicable("%s has no unused address", network)
	}
	call, err := b.add(ctx, p)
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		if strings.Contains(call.Stdout, addr.String()) {
			return notApplicable("the pod has the address %s, which nobody should have had", addr)
		}
	}
	// The pod's other interface leads to the first address only. A proxy for others on the same link answers for the
	// second (proxy_arp_pvlan), other proxies for the first (proxy_arp).
	if err := b.leadElsewhere(ctx, p, addrs[0]); err != nil {
		return err
	}
	for _, addr := range addrs {
		whose, err := b.answersFor(ctx, lan, device, addr, p)
		if err != nil {
			return err
		}
		if whose != "" {
			t.wrong([]cni.Call{call}, "%s answers ARP for %s, which nobody has", whose, addr)
			return nil
		}
	}
	return nil
}

// answersFor asks for an address from a machine on the underlay, and returns who answers: the pod or the node. It is
// empty if nobody does.
func (b *bench) answersFor(ctx context.Context, lan *cluster.Place, device string, addr netip.Addr, p *pod,
) (whose string, err error) {
	// A proxy waits for up to 0.8 s before it answers (ip-sysctl.rst, proxy_delay).
	if _, err := lan.Agent.Probe(ctx, lan.Netns, probe.Spec{
		Protocol: probe.ICMP, To: addr.String(), Within: 1500 * time.Millisecond, Attempts: 1,
	}); err != nil {
		return "", err
	}
	entry, err := lan.Agent.Neighbour(ctx, agent.NeighbourArgs{
		Netns: lan.Netns, Interface: device, Address: addr.String(),
	})
	if err != nil || !entry.Found || entry.Entry.MAC == "" {
		return "", err
	}
	if whose, err = b.whoseMAC(ctx, entry.Entry.MAC, p); err != nil {
		return "", err
	}
	if whose == "" {
		return "", fmt.Errorf("somebody with the MAC %s, who is neither the node nor the pod, answers for %s",
			entry.Entry.MAC, addr)
	}
	return whose, nil
}

// underlayOf returns the device by which a host is on the underlay, and its IPv4 prefix; invalid if it has none.
func underlayOf(ctx context.Context, host *cluster.Place) (device string, network netip.Prefix, err error) {
	links, err := host.Agent.Links(ctx, host.Netns)
	for _, l := range links {
		for _, prefix := range l.Prefixes() {
			if prefix.Addr().Is4() && l.Kind == "veth" {
				device, network = l.Name, prefix
			}
		}
	}
	return device, network, err
}

// whoseMAC names the pod or the node if it has a link with a MAC; else the name is empty.
func (b *bench) whoseMAC(ctx context.Context, mac string, p *pod) (string, error) {
	for _, place := range []struct{ name, netns string }{{"the pod", p.netns}, {"the node", ""}} {
		links, err := b.node.Agent.Links(ctx, place.netns)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(links, func(l agent.Link) bool { return strings.EqualFold(l.MAC, mac) }) {
			return place.name, nil
		}
	}
	return "", nil
}
