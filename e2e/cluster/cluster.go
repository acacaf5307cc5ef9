// Package cluster has what a backend provides and scenarios run on: nodes, the hosts around them, and pods.
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

// Backend makes clusters: from network namespaces of one machine, from machines that ssh reaches, or from a Kubernetes
// cluster.
type Backend interface {
	// Name returns the name for --backend.
	Name() string
	// Missing returns the reason why this backend cannot offer something that a scenario needs, or nil.
	Missing(ctx context.Context, needs scenario.Needs) error
	// Start makes a cluster. After an error nothing is left behind. Clusters may be started and used concurrently.
	Start(ctx context.Context, req Request) (Cluster, error)
}

// Exclusive is a backend whose machines exist already: its clusters are used one at a time. Starting a cluster while
// another one is open resets the machines: the agents of the other cluster end, and its changes are undone.
type Exclusive interface {
	Backend
	Exclusive() bool
}

// IsExclusive reports whether the machines of a backend exist already.
func IsExclusive(b Backend) bool {
	e, ok := b.(Exclusive)
	return ok && e.Exclusive()
}

// Losable is a cluster whose machines can become unreachable, without any fault of a plugin.
type Losable interface {
	Cluster
	// Lost asks all machines, and returns the reason why one of them no longer answers, or nil if all answer. It takes
	// at most half a minute.
	Lost() error
}

// Request says what cluster is wanted.
type Request struct {
	Conflist *conflist.File
	// With is the other network of pods that are on several; nil means none.
	With *conflist.File
	// BinDir holds the plugins' binaries on this machine.
	BinDir string
	// OldBinDir holds the programs of an earlier version; empty means none. With it the programs in BinDirs of the
	// nodes can be replaced, and both versions are in OldPrograms and NewPrograms.
	OldBinDir string
	// Programs are further programs for the nodes: by their path there, which must be below /opt/cni and outside
	// /opt/cni/bin, the path on this machine. Scenarios need none.
	Programs map[string]string
	Nodes    []scenario.Node
	Chain    scenario.Chain
	// Alone leaves out the hosts around the nodes if nothing talks to them: the cluster is ready sooner.
	Alone bool
	// Uplink is the name of the nodes' interface on the underlay; empty means the one in the conflist.
	Uplink string
	// Subnets and Gateways are the networks of the underlay and addresses of its router, if the conflist does not have
	// them.
	Subnets  []netip.Prefix
	Gateways []netip.Addr
	// Devices is the number of devices that each node has for its pods, if pods take one and the backend makes them; 0
	// means as many as any scenario needs.
	Devices int
	// Lease is how long leases of the lab's DHCP server last, if the conflist's IPAM plugin is dhcp; 0 means the
	// backend's default.
	Lease time.Duration
	// UplinkKind is the kind of that interface: "veth" (or empty), "bridge", "dummy" or "vlan".
	UplinkKind string
	// Target describes what runs on each node beside the plugins, and the cloud of the nodes; nil means neither.
	Target *target.Target
}

// These are the directories of programs on nodes that can be replaced (Request.OldBinDir).
const (
	OldPrograms = "/opt/cni/old"
	NewPrograms = "/opt/cni/new"
)

// FabricName is the name of Cluster.Fabric.
const FabricName = "fabric"

// Cluster is a set of running nodes.
type Cluster interface {
	// Nodes returns the nodes in the order of the request.
	Nodes() []*Node
	// Hosts returns the machines outside by name: "router", "lan", "external"; only those that the backend has.
	Hosts() map[string]*Place
	// Fabric returns the place where the frames between the machines can be captured; nil if the backend has none.
	Fabric() *Place
	// Cloud returns the cloud that Request.Target asked for; nil otherwise.
	Cloud() Cloud
	// Reboot removes all kernel state and /run from a node. It then has another agent, and its pods are gone.
	Reboot(ctx context.Context, node *Node) error
	// Notes returns what the user should know about how the cluster was derived from the conflist.
	Notes() []string
	// Close leaves nothing behind. It may be called again.
	Close() error
}

// Place is a network namespace of a node, a pod or a host, from which a probe can start.
type Place struct {
	// Name is "node/a", "pod/server", "host/lan".
	Name  string
	Agent *agent.Client
	// Netns is the path of the namespace on the agent's machine; empty means the agent's own.
	Netns string
	// Interfaces has the addresses by interface. A node has "uplink" and "management", a host "uplink", a pod the names
	// that the plugins gave.
	Interfaces map[string][]netip.Addr
}

// Addresses returns the addresses of prefixes.
func Addresses(prefixes []netip.Prefix) []netip.Addr {
	var list []netip.Addr
	for _, p := range prefixes {
		list = append(list, p.Addr())
	}
	return list
}

// Address returns the place's address of a family on an interface.
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

// Owns reports whether the place has an address.
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
	// Networks are the networks of the conflist: the underlay, and the networks of the pods of all nodes if these are
	// others.
	Networks []netip.Prefix
	// Conflist is the rendered conflist of the node.
	Conflist []byte
	// Other is the conflist of Request.With; nil without.
	Other []byte
	// BinDirs is CNI_PATH on the node.
	BinDirs []string
	// PodAddresses are the addresses that the runtime passes for pods, if the conflist's IPAM plugin expects that: a
	// list for each pod.
	PodAddresses [][]netip.Prefix
	// Devices are those of which each pod gets one, as the conflist's main plugin is told them.
	Devices []conflist.Device
	// PoolSize is the number of pods that the node's share of addresses allows; 0 means that it is unknown.
	PoolSize int
}
