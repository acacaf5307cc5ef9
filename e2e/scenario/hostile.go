package scenario

import (
	"fmt"
	"slices"
)

// Hostile is what a pod does to others as root in its own network namespace: it sends frames of its own making through
// each interface that it was given. The step fails if they do harm at To. A control sends the same frames over a pair
// of links that nothing filters, where they must do it.
type Hostile struct {
	// Pod is the attacker, Does what it does, one of the constants below.
	Pod  string `yaml:"pod"`
	Does string `yaml:"does"`
	// As is the place whose addresses or MAC the pod pretends to have.
	As string `yaml:"as"`
	// To is the place that must not be harmed.
	To string `yaml:"to"`
}

// These are the values of Hostile.Does.
const (
	// HostileSpoof sends packets with the addresses of As as their source; To must not get them. A node gets what its
	// sockets get, and a pod or host what arrives on its interfaces.
	HostileSpoof = "spoof"
	// HostileAnswer does the same after its node To asked As something, so that the packets belong to a connection that
	// the node knows.
	HostileAnswer = "answer"
	// HostileConnect sends packets that belong to a connection of the pod As with its node To, in both directions, and
	// such as would begin it; To must not count them as that connection's, nor keep a connection that nobody began.
	HostileConnect = "join-connections"
	// HostileForward makes the pod a router for the pod As of its node: the kernel of the pod sends on what As sends
	// through it, over a link of the two alone, with the addresses of As as the source; To must not get it.
	HostileForward = "forward"
	// HostileClaim announces the addresses of As as its own, by gratuitous ARP and by neighbour advertisements; To must
	// not believe it.
	HostileClaim = "claim"
	// HostileMAC sends frames with the MAC of As as their source; To must not get them.
	HostileMAC = "take-mac"
	// HostileTag sends frames with a VLAN tag; To must not get them.
	HostileTag = "tag"
	// HostileDHCP offers addresses as a DHCP server does; To must not get the offer.
	HostileDHCP = "offer-leases"
	// HostileLoopback sends packets to 127.0.0.1 of its node To, whose sockets must not get them.
	HostileLoopback = "reach-loopback"
	// HostileFlood asks its node To for the node's addresses, in the name of many machines that do not exist; To must
	// not keep a neighbour entry for any of them.
	HostileFlood = "flood-neighbours"
	// HostileRouter advertises itself as a router of a prefix; its node To must get no address and no default route.
	HostileRouter = "advertise"
	// HostileDaemon connects to each TCP port on which the daemon of its node listens, except for those that its target
	// has as open; none may accept. Nor may the daemon's sockets keep a connection of a user of the node who is nobody,
	// or its files be such that every user can change them.
	HostileDaemon = "reach-daemon"
	// HostileMetadata connects to the metadata service of its node's cloud, which must not accept.
	HostileMetadata = "reach-metadata"
)

// hostileDeeds returns the values of Hostile.Does in the order of lists.
func hostileDeeds() []string {
	return []string{
		HostileSpoof, HostileAnswer, HostileConnect, HostileForward, HostileClaim, HostileMAC, HostileTag, HostileDHCP,
		HostileLoopback, HostileFlood, HostileRouter, HostileDaemon, HostileMetadata,
	}
}

// String returns the step as a sentence.
func (h Hostile) String() string {
	text := fmt.Sprintf("hostile %s does %s", h.Pod, h.Does)
	if h.As != "" {
		text += " as " + h.As
	}
	return text + " to " + h.To
}

// onlyToNode reports whether a deed is about the node of the pod.
func (h Hostile) onlyToNode() bool {
	return slices.Contains([]string{
		HostileAnswer, HostileConnect, HostileLoopback, HostileFlood, HostileRouter, HostileDaemon, HostileMetadata,
	}, h.Does)
}

// sends reports whether a deed is one by frames that harm whoever is there.
func (h Hostile) sends() bool { return h.Does != HostileDaemon && h.Does != HostileMetadata }

// pretends reports whether a deed is one in the name of another place.
func (h Hostile) pretends() bool {
	return slices.Contains([]string{
		HostileSpoof, HostileAnswer, HostileConnect, HostileForward, HostileClaim, HostileMAC,
	}, h.Does)
}

// byNeighbour reports whether a deed is one in the name of a pod of the same node.
func (h Hostile) byNeighbour() bool { return h.Does == HostileForward || h.Does == HostileConnect }

// hostile reports what is wrong with a hostile step.
func (t *stepChecker) hostile(path string, h Hostile) {
	if !t.oneOf(path+".does", "deed", h.Does, hostileDeeds()...) {
		return
	}
	pod, isPod := t.place(path+".pod", h.Pod, PodPlace)
	victims := []string{NodePlace, PodPlace, HostPlace}
	switch {
	case h.onlyToNode():
		victims = []string{NodePlace}
	case h.Does != HostileSpoof && h.Does != HostileForward:
		victims = []string{PodPlace, HostPlace}
	}
	to, isVictim := t.place(path+".to", h.To, victims...)
	if isPod {
		t.reachable(path, pod, "", "hostile")
	}
	if isVictim && to.Kind == PodPlace {
		t.reachable(path, to, "", "hostile")
	}
	if isPod && isVictim {
		t.hostileTo(path, h, pod, to)
	}
	if !h.pretends() {
		if h.As != "" {
			t.wrong(path+".as", "%s pretends nothing; remove as", h.Does)
		}
		return
	}
	pretended := []string{NodePlace, PodPlace, HostPlace}
	if h.byNeighbour() {
		pretended = []string{PodPlace}
	}
	as, known := t.place(path+".as", h.As, pretended...)
	switch {
	case known && isPod && h.byNeighbour() && t.pods[as.Name].Node != t.pods[pod.Name].Node:
		t.wrong(path+".as", "%s runs on another node than %s; name a pod of the same node", as, pod)
	case known && as == pod:
		t.wrong(path+".as", "%s is the attacker itself; name another place", as)
	case known && as == to && h.Does == HostileAnswer:
		t.wrong(path+".as", "%s would ask itself; name another place", as)
	case known && as.Kind == PodPlace:
		t.reachable(path, as, "", "hostile")
	}
}

// hostileTo reports a victim that a deed cannot have, and records the feature that the step tests.
func (t *stepChecker) hostileTo(path string, h Hostile, pod, to Place) {
	own := to.Kind == NodePlace && to.Name == t.pods[pod.Name].Node
	switch {
	case pod == to:
		t.wrong(path+".to", "%s is the attacker itself; name another place", to)
	case to.Kind == NodePlace && !own:
		t.wrong(path+".to", "%s runs on node/%s, got %s; another node is a machine on the underlay, write host/lan",
			pod, t.pods[pod.Name].Node, to)
	case h.Does == HostileDaemon:
		t.test(DaemonIsolation, path)
	case h.Does == HostileMetadata:
		t.test(MetadataIsolation, path)
	case own:
		t.test(NodeIsolation, path)
	case h.Does == HostileMAC:
		t.test(MACIsolation, path)
	case h.Does == HostileTag:
		t.test(VLANIsolation, path)
	default:
		t.test(AddressIsolation, path)
	}
}
