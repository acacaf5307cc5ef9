package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// String returns the service in words, e.g. "web tcp 80 → pod/server 8080, node port 30080 (Local)".
func (s Service) String() string {
	text := fmt.Sprintf("%s %s %d → %s %d", s.Name, s.Protocol, s.Port, strings.Join(s.Endpoints, ", "),
		s.EndpointPort())
	if s.NodePort != 0 {
		text += fmt.Sprintf(", node port %d", s.NodePort)
	}
	if s.ExternalTrafficPolicy != "" {
		text += " (" + s.ExternalTrafficPolicy + ")"
	}
	return text
}

// EndpointPort returns the port of the endpoints: TargetPort, or Port if that is 0.
func (s Service) EndpointPort() uint16 {
	if s.TargetPort != 0 {
		return s.TargetPort
	}
	return s.Port
}

// These are the default node ports of a cluster (kube-apiserver, --service-node-port-range).
const (
	firstNodePort = 30000
	lastNodePort  = 32767
)

func (v *validator) service(path string, s *Service) {
	v.declared(path, ServicePlace, s.Name, v.services[s.Name] != nil)
	v.services[s.Name] = s
	if !v.oneOf(path+".protocol", "protocol", s.Protocol, TCP, UDP) {
		return
	}
	if s.Port == 0 {
		v.wrong(path, "port is missing; want 1 to 65535")
		return
	}
	v.externalTraffic(path, s)
	v.endpointList(path+".endpoints", s, s.Endpoints)
}

func (v *validator) externalTraffic(path string, s *Service) {
	if s.NodePort != 0 && (s.NodePort < firstNodePort || s.NodePort > lastNodePort) {
		v.wrong(path+".nodePort", "nodePort is %d; want %d to %d", s.NodePort, firstNodePort, lastNodePort)
	}
	for _, other := range v.Services {
		if other.Name == s.Name {
			break
		}
		if s.NodePort != 0 && other.NodePort == s.NodePort && other.Protocol == s.Protocol {
			v.wrong(path+".nodePort", "%s nodePort %d is that of service/%s; choose another", s.Protocol, s.NodePort,
				other.Name)
		}
	}
	policy := path + ".externalTrafficPolicy"
	if s.ExternalTrafficPolicy != "" && v.oneOf(policy, "externalTrafficPolicy", s.ExternalTrafficPolicy, ClusterPolicy,
		LocalPolicy) && s.NodePort == 0 {
		v.wrong(policy, "externalTrafficPolicy is about node ports, and service/%s has none; give it a nodePort",
			s.Name)
	}
}

// endpointList reports endpoints that the service cannot have.
func (v *validator) endpointList(path string, s *Service, endpoints []string) {
	if len(endpoints) == 0 {
		v.wrong(path, "service/%s has no endpoints; name the pods, nodes or hosts that answer", s.Name)
	}
	for i, text := range endpoints {
		at := fmt.Sprintf("%s[%d]", path, i)
		end, ok := v.place(at, text, PodPlace, NodePlace, HostPlace)
		switch {
		case !ok:
		case slices.Index(endpoints, text) < i:
			v.wrong(at, "%s occurs twice; remove one of the two", end)
		case !v.listens(end, s.Protocol, s.EndpointPort()):
			v.wrong(at, "nothing on %s listens on %s port %d; add it to listen or change targetPort", end, s.Protocol,
				s.EndpointPort())
		}
	}
}

// knownPlaces returns the places among the texts; the others are reported elsewhere.
func (v *validator) knownPlaces(texts []string) []Place {
	var places []Place
	for _, text := range texts {
		p, err := parsePlace(text)
		if err == nil && (p.Kind == HostPlace || v.nodes[p.Name] != nil && p.Kind == NodePlace ||
			v.pods[p.Name] != nil && p.Kind == PodPlace) {
			places = append(places, p)
		}
	}
	return places
}

// nodeOf returns the name of the node that a place is or runs on; empty for hosts.
func (v *validator) nodeOf(p Place) string {
	switch p.Kind {
	case NodePlace:
		return p.Name
	case PodPlace:
		return v.pods[p.Name].Node
	}
	return ""
}

func (t *stepChecker) endpoints(path string, e Endpoints) {
	of, ok := t.place(path+".of", e.Of, ServicePlace)
	if !ok {
		return
	}
	t.endpointList(path+".are", t.services[of.Name], e.Are)
	t.ends[of.Name] = t.knownPlaces(e.Are)
}

// answering returns the endpoints of a service that are attached at this step; having none is reported.
func (t *stepChecker) answering(path string, service string) []Place {
	var there []Place
	for _, end := range t.ends[service] {
		if end.Kind != PodPlace || t.attached[attachment{end.Name, DefaultInterface}] && t.netns[end.Name] {
			there = append(there, end)
		}
	}
	if len(there) == 0 {
		t.wrong(path, "service/%s has no endpoint here; add one of its pods before", service)
	}
	return there
}

// toService records the features that traffic to a service's cluster addresses tests.
func (t *stepChecker) toService(path string, from, to Place, protocol string, port uint16) {
	service := t.services[to.Name]
	t.reached[to.Name] = true
	switch {
	case protocol == ICMP:
		t.wrong(path, "%s answers %s port %d only, got icmp; probe an endpoint", to, service.Protocol, service.Port)
		return
	case port == 0 || service.Port == 0:
		return
	case protocol != service.Protocol || port != service.Port:
		t.wrong(path, "%s answers %s port %d only, got %s port %d; change one of the two", to, service.Protocol,
			service.Port, protocol, port)
		return
	case from.Kind == HostPlace:
		t.wrong(path, "%s is outside the cluster and knows no way to %s; give it a nodePort and probe that of a node",
			from, to)
		return
	}
	for _, end := range t.answering(path, to.Name) {
		switch {
		case from.Kind == PodPlace && from == end:
			t.test(Hairpin, path)
			if t.pods[from.Name].Count > 1 {
				t.test(PodToService, path)
			}
		case from.Kind == PodPlace:
			t.test(PodToService, path)
		case from != end:
			t.path(path, from, end, nil)
		}
	}
}

// behindNodePort returns the service with this node port, if any.
func (t *stepChecker) behindNodePort(to Place, protocol string, port uint16) *Service {
	if to.Kind != NodePlace || port == 0 {
		return nil
	}
	i := slices.IndexFunc(t.Services, func(s Service) bool { return s.NodePort == port && s.Protocol == protocol })
	if i < 0 {
		return nil
	}
	return &t.Services[i]
}

func (t *stepChecker) toNodePort(path string, from, to Place, s *Service) {
	t.reached[s.Name] = true
	t.test(NodePort, path)
	there := t.answering(path, s.Name)
	// Requests of the node itself are not external, and go to any endpoint.
	if s.ExternalTrafficPolicy != LocalPolicy || from == to || len(there) == 0 {
		return
	}
	onNode := func(end Place) bool { return t.nodeOf(end) == to.Name }
	if !slices.ContainsFunc(there, onNode) {
		t.wrong(path, "service/%s has no endpoint on %s here, and externalTrafficPolicy Local leads to no other "+
			"node; add one of its pods there before", s.Name, to)
	}
}
