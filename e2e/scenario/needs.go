package scenario

import (
	"maps"
	"slices"
	"strings"
)

// Needs is what a scenario asks of a backend and its machine. Lists are sorted and without repetition.
type Needs struct {
	// Nodes is how many nodes must exist at once.
	Nodes int
	// SecondNIC is a node with a management network of its own.
	SecondNIC bool
	// Reboot is a node that can lose its kernel state and keep its disk.
	Reboot bool
	// Sysctls are the settings of a node that the scenario chooses.
	Sysctls []string
	// Hosts are the machines outside the cluster that take part, of HostNames.
	Hosts []string
	// Addresses is how many pod addresses per family each node must have, by its name.
	Addresses map[string]int
	// Plugins are the types that the scenario adds to the conflist; their binaries must be there, and what these call.
	Plugins []string
	// Features are those that the scenario tests.
	Features []Feature
}

// Needs says what the scenario asks of a backend. It is meant for a scenario that Parse returned.
func (s *Scenario) Needs() Needs {
	needs := Needs{Nodes: len(s.Nodes), Addresses: s.addresses(), Features: slices.Sorted(slices.Values(s.Features))}
	for _, n := range s.Nodes {
		needs.SecondNIC = needs.SecondNIC || n.NICs == 2
		needs.Sysctls = append(needs.Sysctls, slices.Collect(maps.Keys(n.Sysctl))...)
		if n.RPFilter != nil {
			needs.Sysctls = append(needs.Sysctls, "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter")
		}
	}
	for _, h := range s.Hosts {
		needs.Hosts = append(needs.Hosts, h.Name)
	}
	for _, step := range s.Steps {
		needs.Reboot = needs.Reboot || step.Reboot != ""
		needs.Hosts = append(needs.Hosts, step.hosts()...)
	}
	for _, plugin := range slices.Concat(s.Chain.AfterMain, s.Chain.Append) {
		if name, ok := plugin["type"].(string); ok {
			needs.Plugins = append(needs.Plugins, name)
		}
	}
	needs.Sysctls, needs.Hosts, needs.Plugins = set(needs.Sysctls), set(needs.Hosts), set(needs.Plugins)
	return needs
}

func set(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}

// hosts are the machines outside the cluster that a step names.
func (s Step) hosts() []string {
	var places []string
	switch {
	case s.Probe != nil:
		places = []string{s.Probe.From, s.Probe.To, s.Probe.Source}
	case s.Neighbour != nil:
		places = []string{s.Neighbour.Of, s.Neighbour.Knows}
	case s.Flows != nil:
		places = s.Flows.Between
	case s.Advertise != nil:
		places = []string{"host/router"}
	}
	var hosts []string
	for _, place := range places {
		if name, found := strings.CutPrefix(place, HostPlace+"/"); found {
			hosts = append(hosts, name)
		}
	}
	return hosts
}

// addresses is what each node declares, else the most that its pods hold at once.
func (s *Scenario) addresses() map[string]int {
	most, held := map[string]int{}, map[attachment]bool{}
	count := func(churned int, node string) {
		for a := range held {
			if p := s.podNamed(a.pod); p.Node == node {
				churned += len(p.Names())
			}
		}
		most[node] = max(most[node], churned)
	}
	for _, step := range s.Steps {
		switch {
		case step.Add != "":
			a := attachment{podOf(step.Add), orDefault(step.As)}
			held[a] = true
			count(0, s.podNamed(a.pod).Node)
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

// podNamed is the zero pod where the scenario declares none of that name.
func (s *Scenario) podNamed(name string) Pod {
	for _, p := range s.Pods {
		if p.Name == name {
			return p
		}
	}
	return Pod{}
}
