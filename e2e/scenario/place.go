package scenario

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// These are the kinds of places.
const (
	NodePlace    = "node"
	PodPlace     = "pod"
	HostPlace    = "host"
	ServicePlace = "service"
)

// DefaultInterface is CNI_IFNAME where a step does not say "as".
const DefaultInterface = "eth0"

// Place is where a step acts: a node, a pod or a host; traffic may also go to a service.
type Place struct {
	Kind string // NodePlace, PodPlace, HostPlace or ServicePlace
	Name string
}

// String returns the place as steps write it, e.g. "pod/server".
func (p Place) String() string { return p.Kind + "/" + p.Name }

// parsePlace reads "node/NAME", "pod/NAME", "host/NAME" or "service/NAME". It does not check that such a place exists.
func parsePlace(text string) (Place, error) {
	kind, name, found := strings.Cut(text, "/")
	if !found || !nameForm.MatchString(name) || !slices.Contains([]string{NodePlace, PodPlace, HostPlace, ServicePlace},
		kind) {
		return Place{}, fmt.Errorf("want a place, got %q; write node/NAME, pod/NAME, host/NAME or service/NAME", text)
	}
	return Place{Kind: kind, Name: name}, nil
}

// nameForm is kebab-case, as a DNS label in Kubernetes, without its limit of length.
var nameForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// These are the hosts of every lab.
const (
	// ExternalHost is behind the router.
	ExternalHost = "external"
	// LANHost is a neighbour on the underlay without any CNI plugin.
	LANHost = "lan"
	// RouterHost is the conflist's gateway.
	RouterHost = "router"
)

// HostNames returns the hosts of every lab.
func HostNames() []string { return []string{ExternalHost, LANHost, RouterHost} }

// These are the interfaces of nodes that a probe can use. A host and a service have only UplinkInterface.
const (
	UplinkInterface     = "uplink"
	ManagementInterface = "management"
	// LocalInterface has the addresses of Node.Local.
	LocalInterface = "local"
)

// These are the protocols of probes; flows, listeners and services have TCP and UDP.
const (
	TCP  = "tcp"
	UDP  = "udp"
	ICMP = "icmp"
)

// Protocols returns all protocols of probes.
func Protocols() []string { return []string{TCP, UDP, ICMP} }

// place reads a place of one of the kinds and checks that the scenario declares it.
func (v *validator) place(path, text string, kinds ...string) (Place, bool) {
	p, err := parsePlace(text)
	if err != nil {
		v.wrong(path, "%s: %v", leaf(path), err)
		return Place{}, false
	}
	if !slices.Contains(kinds, p.Kind) {
		v.wrong(path, "%s takes no %s, got %q; want %s/NAME", leaf(path), p.Kind, text,
			strings.Join(kinds, "/NAME or "))
		return Place{}, false
	}
	declared, mend := slices.Contains(HostNames(), p.Name), "want one of "+strings.Join(HostNames(), ", ")
	switch p.Kind {
	case NodePlace:
		declared, mend = v.nodes[p.Name] != nil, orOneOf(p.Kind, v.nodes)
	case PodPlace:
		declared, mend = v.pods[p.Name] != nil, orOneOf(p.Kind, v.pods)
	case ServicePlace:
		declared, mend = v.services[p.Name] != nil, orOneOf(p.Kind, v.services)
	}
	if !declared {
		v.wrong(path, "%s is not declared; %s", p, mend)
	}
	return p, declared
}

// listens reports whether a server of the place answers on a port, possibly behind a redirect.
func (v *validator) listens(on Place, protocol string, port uint16) bool {
	var listen []Listen
	switch on.Kind {
	case NodePlace:
		listen = v.nodes[on.Name].Listen
	case PodPlace:
		pod := v.pods[on.Name]
		listen = pod.Listen
		if pod.Redirect != nil && protocol == TCP && port == pod.Redirect.Port {
			return true
		}
	case HostPlace:
		if host := v.hosts[on.Name]; host != nil {
			listen = host.Listen
		}
	}
	return slices.Contains(listen, Listen{protocol, port})
}

// These are the ways to send to all machines of a network.
const (
	Broadcast = "broadcast"
	Multicast = "multicast"
)
