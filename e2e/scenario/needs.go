package scenario

import (
	"maps"
	"slices"
	"strings"
)

// Needs contains what a scenario needs from a backend and its machine. Lists are sorted and without repetition.
type Needs struct {
	// Nodes is the number of nodes that exist at the same time.
	Nodes int
	// SecondNIC means a node with a separate management network.
	SecondNIC bool
	// Reboot means a node that can lose its kernel state and keep its disk.
	Reboot bool
	// Services means a proxy on every node, whose dataplane programs the scenario's services.
	Services bool
	// LocalAddresses means a node with addresses on its lo.
	LocalAddresses bool
	// ForwardPolicy means a node on which a chain of another program drops forwarded packets.
	ForwardPolicy bool
	// Routed means pods of a routed network, for which the router of the LAN has routes.
	Routed bool
	// Devices means devices of the node that pods get.
	Devices bool
	// Other means a network in addition to that of the conflist, to which pods are attached first.
	Other bool
	// Redirect means a pod that redirects one of its ports to another.
	Redirect bool
	// Capture means a place at which packets are captured.
	Capture bool
	// Daemon means a daemon of the plugin that can be stopped and started, Cloud a cloud that gives nodes ENIs.
	Daemon, Cloud bool
	// Doom means a daemon that can be killed before it answers, Delay one whose requests can be held back. Variants are
	// the needed variants of the daemon.
	Doom     bool
	Delay    bool
	Variants []string
	// Sysctls are the settings of a node that the scenario chooses.
	Sysctls []string
	// Hosts are the machines outside the cluster that take part, of HostNames.
	Hosts []string
	// BeyondNode means packets of pods to anything but the pods of their node, and back; FromNode those of a node to
	// its own pods.
	BeyondNode, FromNode bool
	// Addresses is the number of pod addresses per family that each node must have, by its name.
	Addresses map[string]int
	// Plugins are the types that the scenario uses besides those of the conflist; their binaries must exist, and the
	// programs that these call.
	Plugins []string
	// Features are the features that the scenario tests.
	Features []Feature
	// Leases means a DHCP server in the lab.
	Leases bool
	// OldVersion means programs of an earlier version of the plugin.
	OldVersion bool
	// OldConflist means a conflist of an earlier version of the plugin.
	OldConflist bool
	// Events are what happens to a node.
	Events []string
	// Hostile means a network on which nobody is who could be harmed.
	Hostile bool
	// Asks means a conflist that declares a capability.
	Asks bool
	// Runtime lists what the scenario does in place of a container runtime and a kubelet's own runtime would not do on
	// request.
	Runtime []string
}

// Needs returns what the scenario needs from a backend. It is for a scenario that Parse returned.
func (s *Scenario) Needs() Needs {
	needs := Needs{
		Nodes: len(s.Nodes), Services: len(s.Services) > 0,
		Addresses: s.addresses(), Features: slices.Sorted(slices.Values(s.Features)), Runtime: s.asRuntime(),
	}
	for _, n := range s.Nodes {
		needs.SecondNIC = needs.SecondNIC || n.NICs == 2
		needs.LocalAddresses = needs.LocalAddresses || len(n.Local) > 0
		needs.Cloud = needs.Cloud || n.ENIs > 0 || len(n.Unmanaged) > 0
		needs.ForwardPolicy = needs.ForwardPolicy || n.Forward != ""
		needs.Sysctls = append(needs.Sysctls, slices.Collect(maps.Keys(n.Sysctl))...)
		if n.RPFilter != nil {
			needs.Sysctls = append(needs.Sysctls, "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter")
		}
	}
	for _, h := range s.Hosts {
		needs.Hosts = append(needs.Hosts, h.Name)
	}
	for _, p := range s.Pods {
		needs.Redirect = needs.Redirect || p.Redirect != nil
		needs.Asks = needs.Asks || p.Asks
		if p.Network == RoutedNetwork {
			needs.Routed = true
			needs.Plugins = append(needs.Plugins, "ptp", "host-local")
		}
		if p.Has(FailingNetwork) {
			needs.Plugins = append(needs.Plugins, "ptp", "static")
		}
		needs.Other = needs.Other || p.Has(OtherNetwork)
	}
	for _, service := range s.Services {
		needs.Hosts = append(needs.Hosts, hosts(service.Endpoints)...)
	}
	for _, step := range s.Steps {
		v := step.verb()
		if v == nil {
			continue
		}
		if v.needs != nil {
			v.needs(&needs, step)
		}
		if v.places != nil {
			needs.Hosts = append(needs.Hosts, hosts(v.places(step))...)
		}
		for _, ends := range step.traffic() {
			beyond, fromNode := s.crosses(ends[0], ends[1])
			needs.BeyondNode, needs.FromNode = needs.BeyondNode || beyond, needs.FromNode || fromNode
		}
	}
	for _, plugin := range slices.Concat(s.Chain.AfterMain, s.Chain.Append) {
		if name, ok := plugin["type"].(string); ok {
			needs.Plugins = append(needs.Plugins, name)
		}
	}
	needs.Sysctls, needs.Hosts, needs.Plugins, needs.Variants, needs.Events = set(needs.Sysctls), set(needs.Hosts),
		set(needs.Plugins), set(needs.Variants), set(needs.Events)
	return needs
}

// traffic returns the places between which a step sends packets, the first one first.
func (s Step) traffic() [][2]string {
	var pairs [][2]string
	switch {
	case s.Probe != nil:
		pairs = append(pairs, [2]string{s.Probe.From, s.Probe.To})
	case s.Recovery != nil:
		for _, p := range s.Recovery.Probes {
			pairs = append(pairs, [2]string{p.From, p.To})
		}
	case s.Flows != nil && s.Flows.From != "":
		pairs = append(pairs, [2]string{s.Flows.From, s.Flows.To})
	case s.Flows != nil:
		for i, from := range s.Flows.Between {
			for _, to := range s.Flows.Between[i+1:] {
				pairs = append(pairs, [2]string{from, to})
			}
		}
	}
	return pairs
}

// crosses reports whether packets between two places leave the node of a pod, or are sent by a node to its own pod.
func (s *Scenario) crosses(from, to string) (beyond, fromNode bool) {
	nodeOf := func(place string) string {
		if strings.HasPrefix(place, PodPlace+"/") {
			return s.podNamed(podOf(place)).Node
		}
		return ""
	}
	sender, receiver := nodeOf(from), nodeOf(to)
	switch {
	case sender == "" && receiver == "":
		return false, false
	case from == NodePlace+"/"+receiver:
		return false, true
	default:
		return sender != receiver, false
	}
}

func set(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}

// hosts returns the names of the machines outside the cluster among the places.
func hosts(places []string) []string {
	var names []string
	for _, place := range places {
		if name, found := strings.CutPrefix(place, HostPlace+"/"); found {
			names = append(names, name)
		}
	}
	return names
}

// addresses returns what each node declares, else the largest number of addresses that its pods have at the same time.
func (s *Scenario) addresses() map[string]int {
	most, held := map[string]int{}, map[attachment]bool{}
	count := func(churned int, node string) {
		for a := range held {
			// Routed pods have addresses of another network.
			if p := s.podNamed(a.pod); p.Node == node && p.OfConflist(a.ifname) {
				churned += len(p.Names())
			}
		}
		most[node] = max(most[node], churned)
	}
	for _, step := range s.Steps {
		switch {
		case step.attaches() != "":
			a := attachment{podOf(step.attaches()), orDefault(step.As)}
			held[a] = true
			count(0, s.podNamed(a.pod).Node)
			if step.Recovery != nil { // which deletes its pod
				delete(held, a)
			}
		case step.Del != "":
			delete(held, attachment{podOf(step.Del), orDefault(step.As)})
		case step.Release != "":
			delete(held, attachment{podOf(step.Release), DefaultInterface})
		case step.Churn != nil:
			count(1, s.podNamed(podOf(step.Churn.Pod)).Node)
		}
	}
	for _, n := range s.Nodes {
		most[n.Name] = max(most[n.Name], n.Addresses)
	}
	return most
}

func podOf(place string) string { return strings.TrimPrefix(place, PodPlace+"/") }

// podNamed returns the pod with a name; the zero pod if there is none.
func (s *Scenario) podNamed(name string) Pod {
	for _, p := range s.Pods {
		if p.Name == name || slices.Contains(p.Names(), name) {
			return p
		}
	}
	return Pod{}
}
