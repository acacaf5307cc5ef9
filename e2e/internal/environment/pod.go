package environment

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Pod is a pod of a running scenario. Its Place has an agent and a path also while the namespace does not exist; its
// Interfaces have the addresses that can be in use.
type Pod struct {
	cluster.Place
	Spec    scenario.Pod
	Node    *cluster.Node
	Network Network
	// Networks are the networks of the interfaces, if the pod has several.
	Networks map[string]Network
	// Namespace is the name of its network namespace; the path is Place.Netns.
	Namespace string
	// Exists reports whether the namespace exists.
	Exists bool

	mu          *sync.Mutex // that of the environment
	containerID string
	attached    map[string]bool // the interfaces that a runtime must DEL, and whether their last ADD succeeded
	// the addresses that the last ADD gave each interface, also if they are no longer in use
	given    map[string][]netip.Addr
	released map[string]bool // the interfaces whose addresses were given back while they stand
}

// Network is the network that a pod is attached to.
type Network struct {
	Name     string
	Conflist []byte // as a runtime would read it on the pod's node
	// CNIVersion is the version at which the runtime calls plugins. Own means that it is the network of the conflist
	// under test.
	CNIVersion string
	Own        bool
}

// On returns the network of an interface.
func (p *Pod) On(ifName string) Network {
	if network, ok := p.Networks[ifName]; ok {
		return network
	}
	return p.Network
}

// ContainerID returns CNI_CONTAINERID.
func (p *Pod) ContainerID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.containerID
}

// SetContainerID gives the pod another CNI_CONTAINERID, as a new sandbox has one.
func (p *Pod) SetContainerID(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.containerID = id
}

// SetSandbox says that a container runtime made the pod's namespace.
func (p *Pod) SetSandbox(netns, containerID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Exists, p.Agent, p.Netns, p.containerID = true, p.Node.Agent, netns, containerID
}

// SetAttached says that ADD was called for an interface, and whether it succeeded: in both cases a runtime DELs it
// (SPEC.md, section 3).
func (p *Pod) SetAttached(ifName string, succeeded bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attached[ifName], p.released[ifName] = succeeded, false
}

// SetAddresses says which addresses ADD gave an interface.
func (p *Pod) SetAddresses(ifName string, addrs []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Interfaces[ifName], p.given[ifName] = addrs, addrs
}

// SetReleased says that the plugin may give the addresses of an interface to another pod, although the interface still
// exists.
func (p *Pod) SetReleased(ifName string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released[ifName] = true
}

// SetDetached says that an interface was deleted.
func (p *Pod) SetDetached(ifName string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.attached, ifName)
	delete(p.Interfaces, ifName)
}

// SetLost says that the namespace is gone without any DEL, as after a reboot of the node.
func (p *Pod) SetLost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Exists, p.Agent = false, p.Node.Agent
	clear(p.Interfaces)
}

// Attached returns the interfaces that a runtime must DEL, in the order of their names.
func (p *Pod) Attached() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.attached))
}

// Valid returns the interfaces whose last ADD succeeded, in the order of their names. They are valid attachments for
// GC: no runtime uses one whose ADD failed.
func (p *Pod) Valid() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var valid []string
	for _, name := range slices.Sorted(maps.Keys(p.attached)) {
		if p.attached[name] {
			valid = append(valid, name)
		}
	}
	return valid
}

// Given returns the addresses that the last ADD of an interface gave, also after DEL.
func (p *Pod) Given(ifName string) []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given[ifName]
}

// CheckUnique returns a *SharedAddress if another attached interface has one of the addresses of this one (failure mode
// D03).
func (e *Environment) CheckUnique(p *Pod, ifName string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, other := range e.Pods {
		for name, addrs := range other.Interfaces {
			if (other == p && name == ifName) || other.released[name] {
				continue
			}
			for _, a := range p.Interfaces[ifName] {
				if slices.Contains(addrs, a) {
					return &SharedAddress{Pod: p, Other: other, Address: a, IfName: name}
				}
			}
		}
	}
	return nil
}

// SharedAddress is the error that ADD gave Pod an address that Other has on IfName.
type SharedAddress struct {
	Pod, Other *Pod
	Address    netip.Addr
	IfName     string
}

// Error names both pods.
func (e *SharedAddress) Error() string {
	return fmt.Sprintf("%s: ADD gave %s, which %s has on %s", e.Pod.Name, e.Address, e.Other.Name, e.IfName)
}
