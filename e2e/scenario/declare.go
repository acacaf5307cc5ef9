package scenario

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/metadata"
)

func (v *validator) declarations() {
	if len(v.Nodes) == 0 {
		v.wrong("nodes", "nodes are missing; declare at least one")
	}
	for i := range v.Nodes {
		v.node(fmt.Sprintf("nodes[%d]", i), &v.Nodes[i])
	}
	for i := range v.Hosts {
		host, path := &v.Hosts[i], fmt.Sprintf("hosts[%d]", i)
		if v.oneOf(path+".name", "host", host.Name, HostNames()...) && v.hosts[host.Name] != nil {
			v.wrong(path, "host %q is declared twice; put its listeners together", host.Name)
		}
		v.hosts[host.Name] = host
		v.listeners(path, host.Listen)
	}
	for i := range v.Pods {
		v.pod(fmt.Sprintf("pods[%d]", i), &v.Pods[i])
	}
	v.sharedNames()
	for i := range v.Services {
		v.service(fmt.Sprintf("services[%d]", i), &v.Services[i])
	}
}

// maxENIs is the largest number that clouds give a machine.
const maxENIs = 15

func (v *validator) node(path string, n *Node) {
	v.declared(path, "node", n.Name, v.nodes[n.Name] != nil)
	v.nodes[n.Name] = n
	v.listeners(path, n.Listen)
	if n.RPFilter != nil && (*n.RPFilter < 0 || *n.RPFilter > 2) {
		v.wrong(path+".rpFilter", "rpFilter is %d; want 0 (off), 1 (strict) or 2 (loose)", *n.RPFilter)
	}
	for name := range n.Sysctl {
		if !sysctlForm.MatchString(name) {
			v.wrong(path+".sysctl."+name,
				"sysctl %q is no dotted name below net.; write one such as net.ipv4.ip_forward", name)
		}
	}
	if n.NICs < 0 || n.NICs > 2 {
		v.wrong(path+".nics", "nics is %d; want 1 or 2", n.NICs)
	}
	if n.Addresses < 0 {
		v.wrong(path+".addresses", "addresses is %d; want at least 1, or leave it out", n.Addresses)
	}
	if n.Leases < 0 {
		v.wrong(path+".leases", "leases is %d; want at least 1, or leave it out", n.Leases)
	}
	if n.ENIs < 0 || n.ENIs > maxENIs {
		v.wrong(path+".enis", "enis is %d; want 1 to %d", n.ENIs, maxENIs)
	}
	for i, kind := range n.Unmanaged {
		path := fmt.Sprintf("%s.unmanaged[%d]", path, i)
		if v.oneOf(path, "kind", kind, metadata.UnmanagedKinds()...) && slices.Contains(n.Unmanaged[:i], kind) {
			v.wrong(path, "%s occurs twice; remove one of the two", kind)
		}
	}
	for i := range n.Local {
		v.localAddress(fmt.Sprintf("%s.local[%d]", path, i), n.Local[:i], n.Local[i])
	}
	if n.Forward != "" {
		v.oneOf(path+".forward", "forward", n.Forward, ForwardDrop, ForwardDropButPods)
	}
}

// localAddress reports text that is not an address which a node can have for itself and pods can reach by a route.
func (v *validator) localAddress(path string, before []string, text string) {
	addr, err := netip.ParseAddr(text)
	// Node-local DNS uses IPv4 link-local addresses; IPv6 ones need a zone, and the one on lo leads nowhere else.
	unreachable := addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() || addr.Is4In6() || addr.Is6() &&
		addr.IsLinkLocalUnicast()
	switch {
	case err != nil || unreachable:
		v.wrong(path, "local %q is no address that pods could reach; write one such as 169.254.20.10", text)
	case slices.Contains(before, text):
		v.wrong(path, "local %s occurs twice; remove one of the two", text)
	}
}

func (v *validator) pod(path string, p *Pod) {
	v.declared(path, "pod", p.Name, v.pods[p.Name] != nil)
	v.pods[p.Name] = p
	v.listeners(path, p.Listen)
	if v.nodes[p.Node] == nil {
		v.wrong(path+".node", "node %q is not declared; %s", p.Node, orOneOf(NodePlace, v.nodes))
	}
	if p.Count < 0 || p.Count > maxCount {
		v.wrong(path+".count", "count is %d; want 1 to %d", p.Count, maxCount)
	}
	if p.ContainerID != "" && !containerIDForm.MatchString(p.ContainerID) {
		v.wrong(path+".containerID", "containerID %q cannot be CNI_CONTAINERID; start with a letter or digit and go "+
			"on with letters, digits, _, . and -", p.ContainerID)
	}
	if p.PodName != "" && !podNameForm.MatchString(p.PodName) {
		v.wrong(path+".podName", "podName %q cannot be the name of a pod in Kubernetes; use lower case letters, "+
			"digits, - and ., and start and end with a letter or digit", p.PodName)
	}
	for i, hp := range p.HostPorts {
		v.hostPort(fmt.Sprintf("%s.hostPorts[%d]", path, i), p, hp)
	}
	if p.Network != "" && v.oneOf(path+".network", "network", p.Network, MainNetwork, RoutedNetwork) &&
		len(p.HostPorts) > 0 {
		v.wrong(path+".hostPorts",
			"hostPorts are for the plugins of the conflist, got network %s; remove one of the two", p.Network)
	}
	v.networks(path+".networks", p)
	if p.Redirect != nil {
		v.redirect(path+".redirect", p)
	}
}

// networks reports what is wrong with the networks of a pod that has several.
func (v *validator) networks(path string, p *Pod) {
	if len(p.Networks) > 0 && (p.Network != "" || p.Count > 0) {
		v.wrong(path, "networks are of one pod and say all that it is attached to; remove network and count")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Networks)) {
		if !ifnameForm.MatchString(name) {
			v.wrong(path, "%q cannot be CNI_IFNAME; write a name of at most 15 characters such as net1", name)
		}
		v.oneOf(path+"."+name, "network", p.Networks[name], ConflistNetwork, OtherNetwork, FailingNetwork)
	}
}

// On returns the network that an interface of the pod is of, one of the constants or empty for the conflist.
func (p Pod) On(ifName string) string {
	if len(p.Networks) == 0 {
		return p.Network
	}
	if n := p.Networks[ifName]; n != ConflistNetwork {
		return n
	}
	return ""
}

// OfConflist reports whether an interface of the pod takes an address of the conflist's network.
func (p Pod) OfConflist(ifName string) bool {
	return slices.Contains([]string{"", MainNetwork}, p.On(ifName))
}

// Has reports whether any interface of the pod is of a network, one of the constants.
func (p Pod) Has(network string) bool {
	return p.Network == network || slices.Contains(slices.Collect(maps.Values(p.Networks)), network)
}

func (v *validator) redirect(path string, p *Pod) {
	from, to := p.Redirect.Port, p.Redirect.To
	switch {
	case from == 0 || to == 0:
		v.wrong(path, "redirect needs port and to; write both, e.g. {port: 80, to: 8080}")
	case !slices.Contains(p.Listen, Listen{TCP, to}):
		v.wrong(path, "nothing in pod/%s listens on tcp port %d; add it to listen or change to", p.Name, to)
	case slices.Contains(p.Listen, Listen{TCP, from}):
		v.wrong(path, "redirect takes what arrives for tcp port %d, on which pod/%s listens itself; change port", from,
			p.Name)
	}
}

func (v *validator) hostPort(path string, p *Pod, hp HostPort) {
	if !v.oneOf(path+".protocol", "protocol", hp.Protocol, TCP, UDP) {
		return
	}
	if hp.HostPort == 0 {
		v.wrong(path, "hostPort is missing; want 1 to 65535")
	}
	if !slices.Contains(p.Listen, Listen{hp.Protocol, hp.ContainerPort}) {
		v.wrong(path, "nothing in pod/%s listens on %s port %d; add it to listen or change containerPort", p.Name,
			hp.Protocol, hp.ContainerPort)
	}
	if p.Count > 1 {
		v.wrong(path, "%d pods cannot share hostPort %d of one node; remove count", p.Count, hp.HostPort)
	}
}

func (v *validator) declared(path, kind, name string, again bool) {
	switch {
	case !nameForm.MatchString(name):
		v.wrong(path, "%s name %q is not kebab-case; use lower-case letters, digits and single hyphens", kind, name)
	case again:
		v.wrong(path, "%s %q is declared twice; give one of the two another name", kind, name)
	}
}

func (v *validator) listeners(path string, listen []Listen) {
	for i, l := range listen {
		path := fmt.Sprintf("%s.listen[%d]", path, i)
		if !v.oneOf(path+".protocol", "protocol", l.Protocol, TCP, UDP) {
			continue
		}
		switch {
		case l.Port == 0:
			v.wrong(path, "port is missing; want 1 to 65535")
		case slices.Index(listen, l) < i:
			v.wrong(path, "%s port %d is listened on twice; remove one of the two", l.Protocol, l.Port)
		}
	}
}

// sharedNames finds pods whose names, container ids or host ports collide once counts are expanded.
func (v *validator) sharedNames() {
	names, ids, ports := map[string]string{}, map[string]string{}, map[string]string{}
	claim := func(taken map[string]string, path, what, key, pod string) bool {
		if other, found := taken[key]; found && other != pod {
			v.wrong(path, "pod/%s and pod/%s share the %s; change one of the two", other, pod, what)
			return false
		}
		taken[key] = pod
		return true
	}
	for i, p := range v.Pods {
		path := fmt.Sprintf("pods[%d]", i)
		for _, name := range p.Names() {
			if !claim(names, path, fmt.Sprintf("name %q", name), name, p.Name) {
				break
			}
		}
		for n := range max(1, min(p.Count, maxCount)) {
			id := p.ContainerID
			if p.Count > 0 {
				id = fmt.Sprintf("%s%d", id, n)
			}
			if p.ContainerID != "" && !claim(ids, path, fmt.Sprintf("containerID %q", id), id, p.Name) {
				break
			}
		}
		for _, hp := range p.HostPorts {
			claim(ports, path, fmt.Sprintf("%s hostPort %d of node/%s", hp.Protocol, hp.HostPort, p.Node),
				fmt.Sprint(p.Node, hp.Protocol, hp.HostPort), p.Name)
		}
	}
}

// Names returns the names of the pods that p makes: its own, or NAME-0, NAME-1, … if it has a count.
func (p Pod) Names() []string {
	if p.Count <= 0 {
		return []string{p.Name}
	}
	names := make([]string, min(p.Count, maxCount))
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", p.Name, i)
	}
	return names
}

// orOneOf says how to mend a name that is not declared.
func orOneOf[T any](kind string, declared map[string]T) string {
	text := "declare it under " + kind + "s"
	if len(declared) > 0 {
		text += " or name one of " + strings.Join(slices.Sorted(maps.Keys(declared)), ", ")
	}
	return text
}
