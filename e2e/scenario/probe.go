package scenario

import (
	"slices"

	"github.com/cnitest/cnitest/e2e/metadata"
)

func (t *stepChecker) probe(path string, p Probe) {
	t.probeOptions(path, p)
	from, fromOK := t.place(path+".from", p.From, NodePlace, PodPlace, HostPlace)
	to, toOK := t.place(path+".to", p.To, NodePlace, PodPlace, HostPlace, ServicePlace)
	if p.Source != "" {
		t.place(path+".source", p.Source, NodePlace, PodPlace, HostPlace)
	}
	if p.SourceInterface != "" {
		if source, ok := t.place(path+".source", p.Source, PodPlace); ok {
			t.reachable(path+".sourceInterface", source, p.SourceInterface, "probe")
		}
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
	if fromOK {
		t.traffic(path, from, to, p.Protocol, p.Port)
	}
	if p.Interface == LocalInterface && fromOK {
		t.ownNode(path, from, to)
	}
}

// traffic finds what answers one place at a port of another, and returns the feature that this tests.
func (t *stepChecker) traffic(path string, from, to Place, protocol string, port uint16) {
	if to.Kind == ServicePlace {
		t.toService(path, from, to, protocol, port)
		return
	}
	if service := t.behindNodePort(to, protocol, port); service != nil {
		t.toNodePort(path, from, to, service)
		return
	}
	t.path(path, from, to, t.listening(path, to, protocol, port))
}

// ownNode reports a mistake if a place other than the node's own pods uses its local addresses: others have no route to
// them.
func (t *stepChecker) ownNode(path string, from, to Place) {
	if from.Kind != PodPlace || t.nodeOf(from) != to.Name {
		t.wrong(path+".interface", "only pods on %s reach its local addresses, got %s; probe from one of them", to,
			from)
		return
	}
	t.test(PodToService, path)
}

// minSize is the smallest size of a probe in bytes that is worth choosing, maxSize the largest of an IP packet.
const minSize, maxSize = 200, 65000

func (t *stepChecker) probeOptions(path string, p Probe) {
	if !t.oneOf(path+".protocol", "protocol", p.Protocol, Protocols()...) {
		return
	}
	icmp := p.Protocol == ICMP
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
	switch {
	case p.Size == 0:
	case p.Protocol == TCP:
		t.wrong(path+".size", "size is of udp and icmp, got tcp; use bytes or remove size")
	case p.Size < minSize || p.Size > maxSize:
		t.wrong(path+".size", "size is %d; want %d to %d bytes", p.Size, minSize, maxSize)
	default:
		t.test(LargeDatagrams, path)
	}
	if p.By != "" && t.oneOf(path+".by", "by", p.By, Broadcast, Multicast) {
		if p.Protocol != UDP {
			t.wrong(path+".by", "by is of udp, got %s; use udp or remove by", p.Protocol)
		}
		t.test(UnderlayGroups, path)
	}
	if p.Bytes != 0 && p.Protocol != TCP {
		t.wrong(path+".bytes", "bytes are of tcp, got %s; use tcp or remove bytes", p.Protocol)
	}
	if p.Count < 0 {
		t.wrong(path+".count", "count is %d; want at least 1, or leave it out", p.Count)
	}
	if p.Attempts < 0 {
		t.wrong(path+".attempts", "attempts is %d; want at least 1, or leave it out", p.Attempts)
	}
}

func (t *stepChecker) probeInterface(path string, p Probe, to Place) {
	if p.Interface == "" {
		return
	}
	switch to.Kind {
	case NodePlace:
		node := t.nodes[to.Name]
		unmanaged := slices.DeleteFunc(metadata.UnmanagedKinds(), func(k string) bool { return k == metadata.EFAOnly })
		switch known := t.oneOf(path+".interface", "interface", p.Interface, append([]string{
			UplinkInterface, ManagementInterface, LocalInterface,
		}, unmanaged...)...); {
		case slices.Contains(unmanaged, p.Interface) && !slices.Contains(node.Unmanaged, p.Interface):
			t.wrong(path+".interface", "%s has no such network interface; give it unmanaged: [%s]", to, p.Interface)
		case known && p.Interface == ManagementInterface && node.NICs != 2:
			t.wrong(path+".interface", "%s has no management network; give it nics: 2", to)
		case known && p.Interface == LocalInterface && len(node.Local) == 0:
			t.wrong(path+".interface", "%s has no local addresses; give it some, e.g. local: [169.254.20.10]", to)
		}
	case ServicePlace:
		t.wrong(path+".interface", "%s has no interfaces; remove interface", to)
	case HostPlace:
		t.wrong(path+".interface", "%s has one interface; remove interface", to)
	}
}

// listening reports a port on which nothing answers. If a pod's host port answers for its node, it returns that pod.
func (t *stepChecker) listening(path string, to Place, protocol string, port uint16) *Pod {
	if protocol == ICMP || port == 0 {
		return nil
	}
	if to.Kind == NodePlace {
		for i, p := range t.Pods {
			taken := func(hp HostPort) bool { return hp.Protocol == protocol && hp.HostPort == port }
			if p.Node == to.Name && slices.ContainsFunc(p.HostPorts, taken) {
				return &t.Pods[i]
			}
		}
	}
	if !t.listens(to, protocol, port) {
		t.wrong(path, "nothing on %s listens on %s port %d; add it to listen", to, protocol, port)
	}
	return nil
}

// path records the feature that traffic between two places tests. behind is the pod that answers on a port of its node.
func (t *stepChecker) path(path string, from, to Place, behind *Pod) {
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
