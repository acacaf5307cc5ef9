package scenario

import (
	"fmt"
	"slices"
)

// The states of libcni's cache for an attachment: State.Cache asserts CachePresent or CacheAbsent, Step.Cache makes
// CacheAbsent or CacheEmpty.
const (
	CachePresent = "present"
	CacheAbsent  = "absent"
	CacheEmpty   = "empty"
)

// These are the assertions of State.Address.
const (
	AddressReserved = "reserved"
	AddressReleased = "released"
)

// These are the kinds of State.Unchanged.
const (
	UnchangedAddresses     = "addresses"
	UnchangedDefaultRoutes = "default-routes"
	// UnchangedDevices are the devices that the node gives to pods, compared with their state before the first step.
	UnchangedDevices = "devices"
)

// These are the states of a pod's namespace when DEL is called, for Step.Netns.
const (
	// NetnsGone is a namespace that was removed and CNI_NETNS still names it.
	NetnsGone = "gone"
	// NetnsEmpty is a namespace that was removed and CNI_NETNS is empty.
	NetnsEmpty = "empty"
)

func (t *stepChecker) state(path string, s State) {
	place, ok := t.place(path+".of", s.Of, NodePlace, PodPlace)
	if !ok {
		return
	}
	if place.Kind == NodePlace {
		t.nodeState(path, s)
		return
	}
	if on := t.pods[place.Name].On(orDefault(s.As)); on != "" && on != MainNetwork {
		t.wrong(path, "%s is of network %s, whose state tells nothing of the conflist; remove this state", place, on)
	}
	if len(s.Unchanged) > 0 {
		t.wrong(path+".unchanged", "unchanged is of a node, got %s; write of: node/%s", place, t.pods[place.Name].Node)
	}
	if s.Cache != "" {
		t.oneOf(path+".cache", "cache", s.Cache, CachePresent, CacheAbsent)
	}
	if s.Address != "" {
		t.oneOf(path+".address", "address", s.Address, AddressReserved, AddressReleased)
	}
	if s.Cache == "" && s.Address == "" {
		t.wrong(path, "state asserts nothing; say cache or address")
	}
	if s.As != "" {
		t.ifname(path+".as", s.As)
	}
	a := attachment{place.Name, orDefault(s.As)}
	if _, added := t.attached[a]; !added {
		t.wrong(path, "%s has no %s yet; put an add before this state", place, a.ifname)
	}
}

func (t *stepChecker) nodeState(path string, s State) {
	if s.Cache != "" || s.Address != "" || s.As != "" {
		t.wrong(path, "cache, address and as are of a pod, got %s; write of: pod/NAME", s.Of)
	}
	if len(s.Unchanged) == 0 {
		t.wrong(path, "state asserts nothing; say unchanged")
	}
	for i, kind := range s.Unchanged {
		t.oneOf(fmt.Sprintf("%s.unchanged[%d]", path, i), "kind of state", kind, UnchangedAddresses,
			UnchangedDefaultRoutes, UnchangedDevices)
	}
	if slices.Contains(s.Unchanged, UnchangedDevices) {
		t.test(GivenDevices, path)
		return
	}
	t.test(NodeIntegrity, path)
}

func (t *stepChecker) neighbour(path string, n Neighbour) {
	of, ok := t.place(path+".of", n.Of, NodePlace, HostPlace)
	knows, known := t.place(path+".knows", n.Knows, NodePlace, PodPlace, HostPlace)
	if !ok || !known {
		return
	}
	switch {
	case of == knows:
		t.wrong(path, "%s is no neighbour of itself; name another place in knows", of)
		return
	case of == Place{HostPlace, ExternalHost} || knows == Place{HostPlace, ExternalHost}:
		t.wrong(path, "host/external is behind the router and no neighbour; use host/lan or host/router")
	}
	if knows.Kind == PodPlace {
		t.reachable(path+".knows", knows, "", "neighbour")
	} else {
		t.test(NodeIntegrity, path)
	}
}
