package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// Event is something that happens to a node in production and that neither a pod nor the plugin causes. What belongs to
// the node itself is there again when the step ends, as its network manager restores it.
type Event struct {
	// Node is the node's name.
	Node string `yaml:"node"`
	// Is names what happens: one of Events.
	Is string `yaml:"is"`
}

// EventKind describes an event that can happen.
type EventKind struct {
	// Name is the value of Event.Is.
	Name string
	// Feature is the claim that the event tests.
	Feature Feature
	// Meaning says what happens, in a sentence without its subject.
	Meaning string
	// Program must be on the node, at this path or in its PATH; empty if the event needs none. Package is the package
	// of Debian that has it.
	Program, Package string
	// Link is a kind of link that the node's kernel must be able to make; empty if the event needs none.
	Link string
	// Unpacked means a program that is not the machine's, but one of those that `make node-programs` unpacks.
	Unpacked bool
}

// Events returns all events in the order of lists.
func Events() []EventKind {
	return []EventKind{
		{
			Name: "uplink-flaps", Feature: SurvivesLinkFlap,
			Meaning: "the uplink goes down and up again: the kernel drops its routes, and its IPv6 addresses",
		},
		{
			Name: "uplink-addresses-change", Feature: SurvivesAddressChange,
			Meaning: "a DHCP server gives the uplink other addresses of the same subnets",
		},
		{
			Name: "bond-port-replaced", Feature: SurvivesPortChange,
			Meaning: "the uplink is a bond, and another link takes the place of the one through which it sends",
			Link:    "bond",
		},
		{
			Name: "bridge-port-replaced", Feature: SurvivesPortChange,
			Meaning: "the uplink is a bridge, and another link takes the place of the one through which it sends",
			Link:    "bridge",
		},
		{
			Name: "rules-and-routes-removed", Feature: SurvivesNetworkd,
			Meaning: "what systemd-networkd removes when it starts is removed: policy rules that are not its own, " +
				"routes of the uplink, and routes with an IPv4 address of the uplink as their source",
		},
		{
			Name: "networkd-restarts", Feature: SurvivesNetworkd,
			Meaning: "systemd-networkd itself restarts, which manages the uplink",
			Program: "/lib/systemd/systemd-networkd", Package: "systemd",
		},
		{
			Name: "ruleset-flushed", Feature: SurvivesFirewall,
			Meaning: "`nft flush ruleset`, with which nftables.service reloads",
		},
		{
			Name: "iptables-flushed", Feature: SurvivesIptables,
			Meaning: "`iptables -F` and `ip6tables -F` for each table, with which many scripts begin",
		},
		{
			Name: "other-agent-cleans", Feature: SurvivesOtherAgents,
			Meaning: "the agent of another plugin removes what it does not know: rules with the priorities 512 to " +
				"1536, routes in the tables 1 to 250, and routes to single addresses through other links than the " +
				"uplink",
		},
		{
			Name: "sysctls-applied", Feature: SurvivesSysctls,
			Meaning: "`sysctl --system` sets a reverse path filter for each interface that exists",
		},
		{
			Name: "sysctls-loosened", Feature: SurvivesSysctls,
			Meaning: "`sysctl --system` sets a loose reverse path filter for each interface that exists, as newer " +
				"distributions have it",
		},
		{
			Name: "strict-arp", Feature: SurvivesStrictARP,
			Meaning: "kube-proxy sets arp_ignore and arp_announce, as with ipvs.strictARP",
		},
		{
			Name: "macs-set", Feature: SurvivesUdev,
			Meaning: "udev gives links with a random MAC a persistent one (MACAddressPolicy=persistent)",
		},
		{
			Name: "udev-triggered", Feature: SurvivesUdev,
			Meaning: "`udevadm trigger` with udev itself, which gives links persistent MACs as soon as they appear",
			Program: "/usr/bin/udevadm", Package: "udev", Unpacked: true,
		},
		{
			Name: "networkmanager-restarts", Feature: SurvivesNetworkManager,
			Meaning: "NetworkManager restarts, which runs beside udev with Debian's configuration",
			Program: "/usr/sbin/NetworkManager", Package: "network-manager", Unpacked: true,
		},
		{
			Name: "firewalld-reloads", Feature: SurvivesFirewalld,
			Meaning: "`firewall-cmd --reload` with firewalld, whose zone accepts everything",
			Program: "/usr/sbin/firewalld", Package: "firewalld", Unpacked: true,
		},
		{
			Name: "ufw-reloads", Feature: SurvivesUFW,
			Meaning: "`ufw reload` with ufw, whose policies accept everything",
			Program: "/usr/sbin/ufw", Package: "ufw", Unpacked: true,
		},
		{
			Name: "ruleset-listed", Feature: SurvivesFirewalld,
			Meaning: "`nft list ruleset` and `nft -j list ruleset` with Debian's nft",
			Program: "/usr/sbin/nft", Package: "nftables", Unpacked: true,
		},
	}
}

// EventNamed returns an event by its name; false if there is none.
func EventNamed(name string) (EventKind, bool) {
	all := Events()
	i := slices.IndexFunc(all, func(k EventKind) bool { return k.Name == name })
	if i < 0 {
		return EventKind{}, false
	}
	return all[i], true
}

// String returns the step as a sentence.
func (e Event) String() string { return fmt.Sprintf("event on node/%s: %s", e.Node, e.Is) }

// Recovery asserts what is true after the events of a node: traffic works, or CHECK says that something is gone, and
// then the daemon, the next ADD or GC restores it. In the end CHECK succeeds, traffic works, and the node has as much
// of everything as before: nothing twice, and nothing gone of which CHECK does not know.
type Recovery struct {
	// Of are the pods that ran when the event happened, of one node.
	Of string `yaml:"of"`
	// Next is a pod of the same node that is added afterwards. It is deleted at the end of the step.
	Next string `yaml:"next"`
	// Probes are the traffic that must work, of Next and of Of.
	Probes []Probe `yaml:"probes"`
}

// String returns the step as a sentence.
func (r Recovery) String() string {
	return fmt.Sprintf("recovery of %s, at the latest with %s", r.Of, r.Next)
}

// uses reports whether a probe of the recovery needs the place.
func (p Probe) uses(place string) bool {
	return slices.Contains([]string{p.From, p.To, p.Source}, place)
}

// OfRunning returns the probes that need nothing of Next.
func (r Recovery) OfRunning() []Probe {
	return slices.DeleteFunc(slices.Clone(r.Probes), func(p Probe) bool { return p.uses(r.Next) })
}

// event reports what is wrong with an event.
func (t *stepChecker) event(path string, e Event) {
	t.nodeNamed(path+".node", e.Node)
	kind, known := EventNamed(e.Is)
	if !known {
		var names []string
		for _, k := range Events() {
			names = append(names, k.Name)
		}
		t.wrong(path+".is", "unknown event %q; want one of %s", e.Is, strings.Join(names, ", "))
		return
	}
	t.test(kind.Feature, path)
	t.happened[e.Node] = true
}

// recovery reports what is wrong with a recovery. Its next pod is attached meanwhile.
func (t *stepChecker) recovery(path string, r Recovery) {
	of, ok := t.place(path+".of", r.Of, PodPlace)
	if ok {
		t.reachable(path+".of", of, DefaultInterface, "recovery")
		if node := t.pods[of.Name].Node; !t.happened[node] {
			t.wrong(path+".of", "nothing happened to node/%s, on which %s runs; put an event before this recovery",
				node, of)
		}
	}
	next, ok := t.place(path+".next", r.Next, PodPlace)
	if !ok {
		return
	}
	here := attachment{next.Name, DefaultInterface}
	switch {
	case t.attached[here]:
		t.wrong(path+".next", "%s is attached already; name another pod", next)
	case of.Name != "" && t.pods[next.Name].Node != t.pods[of.Name].Node:
		t.wrong(path+".next", "%s is on node/%s, and %s on node/%s; name a pod of that node", next,
			t.pods[next.Name].Node, of, t.pods[of.Name].Node)
	}
	if len(r.OfRunning()) == 0 {
		t.wrong(path+".probes", "no probe is of %s alone; write the traffic that the event must not end", of)
	}
	t.attached[here], t.netns[next.Name] = true, true
	for i, p := range r.Probes {
		t.probe(fmt.Sprintf("%s.probes[%d]", path, i), p)
	}
	t.attached[here] = false
}
