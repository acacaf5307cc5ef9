package scenario

import (
	"fmt"
	"slices"
)

func (t *teller) probe(path string, p Probe) {
	t.probeOptions(path, p)
	from, fromOK := t.place(path+".from", p.From, NodePlace, PodPlace, HostPlace)
	to, toOK := t.place(path+".to", p.To, NodePlace, PodPlace, HostPlace)
	if p.Source != "" {
		t.place(path+".source", p.Source, NodePlace, PodPlace, HostPlace)
	}
	if fromOK && from.Kind == PodPlace {
		t.reachable(path+".from", from, "", "probe")
	}
	if !toOK {
		return
	}
	if to.Kind == PodPlace {
		t.reachable(path+".to", to, orDefault(p.Interface), "probe")
	}
	t.probeInterface(path, p, to)
	behind := t.listening(path, to, p.Protocol, p.Port)
	if fromOK {
		t.path(path, from, to, behind)
	}
}

func (t *teller) probeOptions(path string, p Probe) {
	if !t.oneOf(path+".protocol", "protocol", p.Protocol, "tcp", "udp", "icmp") {
		return
	}
	icmp := p.Protocol == "icmp"
	switch {
	case icmp && p.Port != 0:
		t.wrong(path+".port", "icmp has no ports; remove port")
	case !icmp && p.Port == 0:
		t.wrong(path, "port is missing; %s needs one", p.Protocol)
	}
	if icmp && p.Source != "" {
		t.wrong(path+".source", "icmp tells no source; use tcp or udp, or remove source")
	}
	if p.FullMTU && !icmp {
		t.wrong(path+".fullMTU", "fullMTU is of icmp, got %s; use icmp or remove fullMTU", p.Protocol)
	}
	if p.Bytes != 0 && p.Protocol != "tcp" {
		t.wrong(path+".bytes", "bytes are of tcp, got %s; use tcp or remove bytes", p.Protocol)
	}
	if p.Count < 0 {
		t.wrong(path+".count", "count is %d; want at least 1, or leave it out", p.Count)
	}
	if p.Attempts < 0 {
		t.wrong(path+".attempts", "attempts is %d; want at least 1, or leave it out", p.Attempts)
	}
}

func (t *teller) probeInterface(path string, p Probe, to Place) {
	if p.Interface == "" {
		return
	}
	switch to.Kind {
	case NodePlace:
		if t.oneOf(path+".interface", "interface", p.Interface, "uplink", "management") && p.Interface == "management" && t.nodes[to.Name].NICs != 2 {
			t.wrong(path+".interface", "%s has no management network; give it nics: 2", to)
		}
	case HostPlace:
		t.wrong(path+".interface", "%s has one interface; remove interface", to)
	}
}

// listening reports a port on which nothing answers. Where a pod's host port answers for its node, that pod is returned.
func (t *teller) listening(path string, to Place, protocol string, port uint16) *Pod {
	if protocol == "icmp" || port == 0 {
		return nil
	}
	var listen []Listen
	switch to.Kind {
	case NodePlace:
		listen = t.nodes[to.Name].Listen
		for i, p := range t.Pods {
			taken := func(hp HostPort) bool { return hp.Protocol == protocol && hp.HostPort == port }
			if p.Node == to.Name && slices.ContainsFunc(p.HostPorts, taken) {
				return &t.Pods[i]
			}
		}
	case PodPlace:
		listen = t.pods[to.Name].Listen
	case HostPlace:
		if host := t.hosts[to.Name]; host != nil {
			listen = host.Listen
		}
	}
	if !slices.Contains(listen, Listen{protocol, port}) {
		t.wrong(path, "nothing on %s listens on %s port %d; add it to listen", to, protocol, port)
	}
	return nil
}

// path names the feature that traffic between two places tests. behind is the pod that answers on a port of its node.
func (t *teller) path(path string, from, to Place, behind *Pod) {
	if behind != nil {
		to = Place{PodPlace, behind.Name}
	}
	if from == to {
		t.wrong(path, "%s is both ends; name another place", from)
		return
	}
	if from.Kind != PodPlace && to.Kind == PodPlace {
		from, to = to, from
	}
	switch {
	case from.Kind != PodPlace:
		if from.Kind == HostPlace && to.Kind == HostPlace {
			t.wrong(path, "%s and %s have no plugin between them; name a node or a pod", from, to)
			return
		}
		t.test(NodeIntegrity, path)
	case to.Kind == HostPlace:
		t.test(External, path)
	case to.Kind == NodePlace && t.pods[from.Name].Node == to.Name:
		t.test(HostToPod, path)
	case to.Kind == PodPlace && t.pods[from.Name].Node == t.pods[to.Name].Node:
		t.test(PodToPod, path)
	default:
		t.test(CrossNode, path)
	}
}

func (t *teller) startFlows(path string, f Flows) {
	known := t.oneOf(path+".protocol", "protocol", f.Protocol, "tcp", "udp")
	if f.Port == 0 {
		t.wrong(path, "port is missing; flows need one")
	}
	if len(f.Between) < 2 {
		t.wrong(path, "flows run between at least 2 places, got %d; name more in between", len(f.Between))
	}
	var places []Place
	for i, text := range f.Between {
		at := fmt.Sprintf("%s.between[%d]", path, i)
		place, ok := t.place(at, text, NodePlace, PodPlace, HostPlace)
		if !ok {
			continue
		}
		if place.Kind == PodPlace {
			t.reachable(at, place, "", "flows")
		}
		if known {
			t.listening(at, place, f.Protocol, f.Port)
		}
		for _, other := range places {
			t.path(at, other, place, nil)
		}
		places = append(places, place)
	}
}
