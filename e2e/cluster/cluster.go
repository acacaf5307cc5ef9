// Package cluster is what a backend provides and what scenarios run on: nodes, the hosts around them, and the pods.
//
// Run its tests: go test ./e2e/cluster
package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

// Backend makes clusters: from network namespaces of one machine, from machines that ssh reaches, from a Kubernetes
// cluster.
type Backend interface {
	// Name is what --backend calls it.
	Name() string
	// Missing says why this backend cannot offer what a scenario needs; nil when it can.
	Missing(ctx context.Context, needs scenario.Needs) error
	// Start makes a cluster. On an error nothing is left. Clusters may be started and used concurrently.
	Start(ctx context.Context, req Request) (Cluster, error)
}

// Exclusive is a backend whose machines are there already, and once: its clusters are used one at a time. A cluster
// that is started while another one is open finds the machines as they were at first: the agents of the other one are
// ended, and what happened there is undone.
type Exclusive interface {
	Backend
	Exclusive() bool
}

// IsExclusive reports whether a backend is one that makes no machines.
func IsExclusive(b Backend) bool {
	e, ok := b.(Exclusive)
	return ok && e.Exclusive()
}

// Losable is a cluster whose machines can get out of reach, through no fault of a plugin.
type Losable interface {
	Cluster
	// Lost asks the machines, and is why one of them does not answer any more; nil while all do. It takes half a minute
	// at most.
	Lost() error
}

// Request is what a cluster is made for.
type Request struct {
	Conflist *conflist.File
	// BinDir holds the plugins' binaries on this machine.
	BinDir string
	// Programs are further programs for the nodes: by their path there, which must be below /opt/cni and outside
	// /opt/cni/bin, the path on this machine. None are needed to run scenarios.
	Programs map[string]string
	Nodes    []scenario.Node
	Chain    scenario.Chain
	// Alone leaves the hosts around the nodes out, where nobody is to talk to them: the cluster stands sooner.
	Alone bool
	// Uplink, when set, is the name of the nodes' interface on the underlay; empty means what the conflist says.
	Uplink string
	// Subnets and Gateways are the networks of the underlay and addresses of its router, where the conflist does not
	// say them.
	Subnets  []netip.Prefix
	Gateways []netip.Addr
	// Lease is how long leases of the lab's DHCP server last, where the conflist's IPAM plugin is dhcp; 0 means the
	// backend's default.
	Lease time.Duration
	// UplinkKind is the kind of that interface: "veth" (or empty), "bridge", "dummy" or "vlan".
	UplinkKind string
	// Target is what runs on each node beside the plugins, and the cloud in which the nodes are; nil means neither.
	Target *target.Target
}

// FabricName is the name of Cluster.Fabric.
const FabricName = "fabric"

// Cluster is running nodes.
type Cluster interface {
	// Nodes are in the order of the request.
	Nodes() []*Node
	// Hosts are the machines outside by name: "router", "lan", "external"; those that the backend has.
	Hosts() map[string]*Place
	// Fabric is where the frames between the machines can be captured; nil where the backend has no such place.
	Fabric() *Place
	// Cloud is the network where Request.Target asked for one; nil otherwise.
	Cloud() Cloud
	// Reboot takes all kernel state and /run from a node; its agent is another one afterwards, and pods on it are gone.
	Reboot(ctx context.Context, node *Node) error
	// Notes are what the user should know of how the cluster was derived from the conflist.
	Notes() []string
	// Close leaves nothing behind. It may be called again.
	Close() error
}

// Place is a network namespace from which a probe can start: of a node, a pod or a host.
type Place struct {
	// Name is "node/a", "pod/server", "host/lan".
	Name  string
	Agent *agent.Client
	// Netns is the namespace's path on the agent's machine; empty means the agent's own.
	Netns string
	// Interfaces are the addresses by interface. A node's are "uplink" and "management", a host's "uplink", a pod's the
	// names that the plugins gave.
	Interfaces map[string][]netip.Addr
}

// Addresses are those of prefixes.
func Addresses(prefixes []netip.Prefix) []netip.Addr {
	var list []netip.Addr
	for _, p := range prefixes {
		list = append(list, p.Addr())
	}
	return list
}

// Address is the place's address of a family on an interface.
func (p *Place) Address(iface string, is4 bool) (netip.Addr, error) {
	for _, a := range p.Interfaces[iface] {
		if a.Is4() == is4 {
			return a, nil
		}
	}
	family := "IPv6"
	if is4 {
		family = "IPv4"
	}
	return netip.Addr{}, fmt.Errorf("%s: no %s address on %s", p.Name, family, iface)
}

// Owns reports whether an address is one of the place's.
func (p *Place) Owns(addr netip.Addr) bool {
	for _, addrs := range p.Interfaces {
		for _, a := range addrs {
			if a == addr.Unmap() {
				return true
			}
		}
	}
	return false
}

// Node is a machine on which pods are attached.
type Node struct {
	Place
	// Uplink is the name of the interface on the underlay.
	Uplink string
	// Networks are those that the conflist uses: the underlay's, and those of all nodes' pods where these are others.
	Networks []netip.Prefix
	// Conflist is the node's own, rendered.
	Conflist []byte
	// BinDirs are CNI_PATH on the node.
	BinDirs []string
	// PodAddresses are those that the runtime brings for pods, where the conflist's IPAM plugin waits for that: of each
	// pod at a time.
	PodAddresses [][]netip.Prefix
	// PoolSize is how many pods the node's share of addresses allows; 0 means that it is not known.
	PoolSize int
}
