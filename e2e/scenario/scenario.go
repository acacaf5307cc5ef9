// Package scenario defines the scenario file: one behaviour of a CNI plugin as nodes, pods and steps.
//
// It only parses and validates files, and says what they need from a backend. Package e2e runs them. There are no
// templates, no loops and no conditions; the steps of a scenario can be read aloud.
//
// Run its tests: go test ./e2e/scenario
package scenario

// APIVersion and Kind start every scenario file.
const (
	APIVersion = "cnitest/v1alpha1"
	Kind       = "Scenario"
)

// Scenario is one behaviour that users of a plugin rely on.
type Scenario struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`

	// Name is the file's name without ".yaml" and the id of the result.
	Name string `yaml:"name"`
	// Description says why a user cares and what commonly breaks the behaviour.
	Description string `yaml:"description"`
	// Features are the claims that the scenario tests; it is core if the profile has all of them.
	Features []Feature `yaml:"features"`
	// Covers are ids of failure modes and requirements, e.g. "A01" or "DEL-4".
	Covers []string `yaml:"covers"`

	// Chain changes the plugins of the conflist for this scenario.
	Chain Chain `yaml:"chain"`

	Nodes []Node `yaml:"nodes"`
	Hosts []Host `yaml:"hosts"`
	Pods  []Pod  `yaml:"pods"`
	// Services exist on every node before the first step. Their endpoints follow the pods that are attached.
	Services []Service `yaml:"services"`
	Steps    []Step    `yaml:"steps"`

	// File and Source are where the scenario was read from.
	File   string `yaml:"-"`
	Source []byte `yaml:"-"`
}

// Chain contains plugins that a scenario adds to the conflist's own, to show that they work together. Each is a
// plugin's configuration as it would be in the conflist.
type Chain struct {
	// AfterMain follows the first plugin.
	AfterMain []map[string]any `yaml:"afterMain"`
	// Append is at the end.
	Append []map[string]any `yaml:"append"`
}

// These are the policies of Node.Forward; empty means none.
const (
	ForwardDrop        = "drop"
	ForwardDropButPods = "drop-but-pods"
)

// NodeName returns the name of the i-th node, from 0, where nobody chose one: a to z, then aa, ab and so on.
func NodeName(i int) string {
	const letters = 'z' - 'a' + 1
	last := string(rune('a' + i%letters))
	if i < letters {
		return last
	}
	return NodeName(i/letters-1) + last
}

// Node is a machine on which a runtime attaches pods.
type Node struct {
	Name string `yaml:"name"`
	// Listen contains servers in the node's own network namespace, like those of a host-network pod.
	Listen []Listen `yaml:"listen"`
	// RPFilter is net.ipv4.conf.{all,default}.rp_filter: 0 off, 1 strict, 2 loose (kernel: ip-sysctl.rst). Nil means 2.
	RPFilter *int `yaml:"rpFilter"`
	// Sysctl are further settings below net., by their dotted name, made before anything is attached.
	Sysctl map[string]string `yaml:"sysctl"`
	// NICs is 1 or 2 (0 means 1). With 2 the first is a management network of its own, and the uplink comes second.
	NICs int `yaml:"nics"`
	// Addresses is the number of pod addresses per family that the node needs; 0 means its share of the conflist's
	// range. In a cloud it has exactly this number, spread over its ENIs.
	Addresses int `yaml:"addresses"`
	// Leases is how many addresses the lab's DHCP server has for the node; 0 means enough.
	Leases int `yaml:"leases"`
	// Local are addresses on the node's lo, e.g. 169.254.20.10 of a node-local DNS: the same on many nodes, and for the
	// node's own pods only. The node's listeners answer there, too; a probe asks them with interface "local".
	Local []string `yaml:"local"`
	// Forward is the policy of a foreign chain of the FORWARD hook, as a Docker host has it: "" none, "drop", or
	// "drop-but-pods": the same with the accept for the pods' addresses that an administrator adds.
	Forward string `yaml:"forward"`
	// ENIs is the smallest number of network interfaces of a cloud that the node has, and makes the scenario one for
	// clouds; 0 means any number, and no cloud is needed.
	ENIs int `yaml:"enis"`
	// Unmanaged are network interfaces of the cloud that the node has besides, and that are not for pods: "tagged" as
	// unmanaged (node.k8s.amazonaws.com/no_manage), "efa-only", "trunk", or on a "second-card". Each but the EFA-only
	// one has three addresses, which somebody else than the plugin's daemon uses on the node, with routes and rules; a
	// probe asks them with the kind as its interface.
	Unmanaged []string `yaml:"unmanaged"`
}

// These are the policies of Service.ExternalTrafficPolicy.
const (
	ClusterPolicy = "Cluster"
	LocalPolicy   = "Local"
)

// Service is a Kubernetes Service of one port, as a proxy on each node programs it: with a cluster address of each
// family that pods have.
type Service struct {
	Name     string `yaml:"name"`
	Protocol string `yaml:"protocol"` // tcp or udp
	// Port is the port of the cluster address, TargetPort that of the endpoints; 0 means the same as Port.
	Port       uint16 `yaml:"port"`
	TargetPort uint16 `yaml:"targetPort"`
	// NodePort is the port on every address of every node, 30000 to 32767; 0 means none.
	NodePort uint16 `yaml:"nodePort"`
	// ExternalTrafficPolicy says where a node port leads: "Cluster" (or empty) to any endpoint, which sees the node
	// that was asked; "Local" to the endpoints of that node, which see the client.
	ExternalTrafficPolicy string `yaml:"externalTrafficPolicy"`
	// Endpoints are pods, nodes (what runs on the host network) or hosts (off the cluster).
	Endpoints []string `yaml:"endpoints"`
}

// These are the networks of Pod.Network; empty means the conflist.
const (
	// MainNetwork is the conflist's first plugin alone.
	MainNetwork = "main"
	// RoutedNetwork is upstream ptp with a range of the lab's own for each node.
	RoutedNetwork = "routed"
)

// The networks of Pod.Networks.
const (
	// ConflistNetwork is the conflist under test.
	ConflistNetwork = "conflist"
	// OtherNetwork is the network that the run names in addition (--with), or RoutedNetwork if it names none.
	OtherNetwork = "other"
	// FailingNetwork is one whose ADD fails when its interface is due, with code 999.
	FailingNetwork = "failing"
)

// Host is a machine outside the cluster. Three exist in every lab: "router" (the conflist's gateway), "lan" (a
// neighbour on the underlay without any CNI plugin) and "external" (behind the router).
type Host struct {
	Name   string   `yaml:"name"`
	Listen []Listen `yaml:"listen"`
}

// Pod is a network namespace that the runtime attaches, and the servers in it.
type Pod struct {
	Name string `yaml:"name"`
	Node string `yaml:"node"`
	// Count makes this number of pods, named NAME-0, NAME-1, …, which a step that names NAME handles all together. 0
	// means one pod, NAME.
	Count  int      `yaml:"count"`
	Listen []Listen `yaml:"listen"`
	// ContainerID is CNI_CONTAINERID; empty means one derived from the scenario and the pod. With Count the index is
	// appended.
	ContainerID string `yaml:"containerID"`
	// PodName is K8S_POD_NAME; empty means one derived from the scenario and the pod. Pods that have the same one are
	// containers of one pod of Kubernetes, one after the other.
	PodName string `yaml:"podName"`
	// HostPorts are passed as the capability portMappings.
	HostPorts []HostPort `yaml:"hostPorts"`
	// Asks means that the runtime passes a value for each capability that the conflist declares (mac, bandwidth, dns,
	// …), which ADD must give the pod.
	Asks bool `yaml:"asks"`
	// Network is the network of the pod: "" the conflist, MainNetwork for a second pod that needs only the underlay, or
	// RoutedNetwork, as for pods of an overlay or routed network beside the underlay.
	Network string `yaml:"network"`
	// Networks are the networks of a pod on several networks, by interface; steps name the interface with as.
	Networks map[string]string `yaml:"networks"`
	// Redirect sends what arrives for a TCP port of the pod to another of its ports, as the sidecars of a service mesh
	// do.
	Redirect *Redirect `yaml:"redirect"`
}

// Redirect is a REDIRECT rule in a pod. A server listens on To; none listens on Port.
type Redirect struct {
	Port uint16 `yaml:"port"`
	To   uint16 `yaml:"to"`
}

// Listen is a server that answers every probe and says whom it saw.
type Listen struct {
	Protocol string `yaml:"protocol"` // tcp or udp
	Port     uint16 `yaml:"port"`
}

// HostPort is an entry of the capability portMappings (CONVENTIONS.md).
type HostPort struct {
	HostPort      uint16 `yaml:"hostPort"`
	ContainerPort uint16 `yaml:"containerPort"`
	Protocol      string `yaml:"protocol"`
}

// Step is one verb and its options. Exactly one verb is set. Places are "node/NAME", "pod/NAME", "host/NAME" or, as the
// target of a probe or flow, "service/NAME".
type Step struct {
	// Add, Check and Del run the verb of the CNI spec for a pod, as a runtime does through libcni. Add makes the pod's
	// namespace first.
	Add   string `yaml:"add"`
	Check string `yaml:"check"`
	Del   string `yaml:"del"`
	// GC and Status run the verb on a node. The valid attachments of GC are those that were added and not deleted.
	GC     string `yaml:"gc"`
	Status string `yaml:"status"`

	// Remove removes a pod's network namespace without any DEL, as a runtime that lost it does.
	Remove string `yaml:"remove"`
	// Release runs the DEL of the pod's IPAM plugin alone: the address is free, everything else remains.
	Release string `yaml:"release"`
	// Reboot removes all kernel state and /run from a node and leaves its disk.
	Reboot string `yaml:"reboot"`

	Probe     *Probe     `yaml:"probe"`
	State     *State     `yaml:"state"`
	Neighbour *Neighbour `yaml:"neighbour"`
	// Lease asks the lab's DHCP server about the lease of a pod's address.
	Lease *Lease `yaml:"lease"`
	// Flows starts a continuous request and reply; a later Stop ends every flow of the scenario and says what may be
	// lost.
	Flows *Flows `yaml:"flows"`
	Stop  *Stop  `yaml:"stop"`
	// Endpoints replaces the endpoints of a service on every node, as when pods come and go or stop being ready.
	Endpoints *Endpoints `yaml:"endpoints"`
	// Capture starts to watch for packets to a service's cluster addresses; a later Captured ends every capture of the
	// scenario and says how many there may be.
	Capture  *Capture  `yaml:"capture"`
	Captured *Captured `yaml:"captured"`
	// Daemon stops, kills and starts the daemon that the target runs on each node, Cloud changes what the target's
	// cloud gives a node.
	Daemon *Daemon `yaml:"daemon"`
	Cloud  *Cloud  `yaml:"cloud"`
	// Install replaces the plugin's programs by those of another version.
	Install *Install `yaml:"install"`
	// Event is something that happens to a node, Recovery what is true afterwards.
	Event    *Event    `yaml:"event"`
	Recovery *Recovery `yaml:"recovery"`
	// Churn attaches and deletes a pod again and again.
	Churn *Churn `yaml:"churn"`
	// Advertise sends an IPv6 router advertisement into the underlay from the router.
	Advertise *Advertise `yaml:"advertise"`
	// Hostile makes a pod send what harms others where nothing prevents it.
	Hostile *Hostile `yaml:"hostile"`
	// Wait does nothing for a time that the kernel or a protocol prescribes; a comment says which.
	Wait Duration `yaml:"wait"`

	// As is CNI_IFNAME of Add, Check, Del; empty means eth0.
	As string `yaml:"as"`
	// Netns tells Del about the pod's namespace: "" it exists, "gone" it was removed and CNI_NETNS still names it,
	// "empty" it was removed and CNI_NETNS is empty.
	Netns string `yaml:"netns"`
	// Cache is what Del finds in /var/lib/cni/results: "" what Add wrote, "absent" nothing, "empty" a file of no bytes.
	Cache string `yaml:"cache"`

	// Fails, if set, is the code of the error with which Add, Check or Status must fail (SPEC.md, section 5, "Error").
	// A later Del removes what a failed Add leaves.
	Fails int `yaml:"fails"`
	// Within is how long Status is repeated until it answers as it must, as runtimes do; 0 means once.
	Within Duration `yaml:"within"`

	// Line is the step's line in the file.
	Line int `yaml:"-"`
}

// Probe sends traffic from one place to another and says what both must see.
type Probe struct {
	From string `yaml:"from"`
	// To may be "service/NAME": its cluster addresses, from pods and nodes. A node port is a port of a node.
	To string `yaml:"to"`
	// Interface picks the addresses of To: a pod's interface (default eth0), "uplink" (default), "management" or
	// "local" of a node, or one of its Unmanaged.
	Interface string `yaml:"interface"`
	Protocol  string `yaml:"protocol"` // tcp, udp or icmp
	Port      uint16 `yaml:"port"`     // for tcp and udp
	// Source is the place of which the destination (of a service: the endpoint) must see an address; for tcp and udp.
	// Empty: not asserted.
	Source string `yaml:"source"`
	// SourceInterface wants the address that the far end sees to be one of this interface of Source, a pod.
	SourceInterface string `yaml:"sourceInterface"`
	// Server is the place that must answer (tcp and udp), to distinguish the endpoints of a service. Empty: not
	// asserted.
	Server string `yaml:"server"`
	// Bytes is what TCP transfers each way, e.g. 64KiB (default) or 32MiB.
	Bytes Bytes `yaml:"bytes"`
	// FullMTU makes each packet as large as the interface allows and forbids fragmentation (icmp).
	FullMTU bool `yaml:"fullMTU"`
	// Size is the size in bytes of each packet of udp or icmp, which is fragmented if it is larger than the interface
	// allows.
	Size int `yaml:"size"`
	// By is "broadcast" or "multicast": the request goes to all on the network that From shares with To, and To must
	// answer (udp).
	By string `yaml:"by"`
	// Count is the number of packets or requests; default 1. None of them may be lost.
	Count int `yaml:"count"`
	// Within is how long the probe keeps trying; default 5s.
	Within Duration `yaml:"within"`
	// Attempts bounds the tries within Within; default as many as possible. 1 means that the very first packet must be
	// answered.
	Attempts int `yaml:"attempts"`
}

// State asserts what is on a node's disk and in its kernel.
type State struct {
	// Of is a pod (Cache, Address) or a node (Unchanged).
	Of string `yaml:"of"`
	// Cache is "present" or "absent": the entry of libcni in /var/lib/cni/results; present includes its content.
	Cache string `yaml:"cache"`
	// Address is "reserved" or "released": the pod's addresses in the store of host-local; reserved includes its
	// content.
	Address string `yaml:"address"`
	// Unchanged has kinds of state that must be as they were before the last advertise: "addresses", "default-routes".
	Unchanged []string `yaml:"unchanged"`
	// As is the interface; empty means eth0.
	As string `yaml:"as"`
}

// Neighbour asserts the neighbour entry of a machine on the underlay: Of has an entry for the address of Knows, with
// the link-layer address of the interface that has this address.
type Neighbour struct {
	Of    string `yaml:"of"`
	Knows string `yaml:"knows"`
}

// Flows is continuous traffic: between every ordered pair of the places, or from one place to another, which may be a
// service.
type Flows struct {
	Between  []string `yaml:"between"`
	From     string   `yaml:"from"`
	To       string   `yaml:"to"`
	Protocol string   `yaml:"protocol"` // tcp or udp
	Port     uint16   `yaml:"port"`
	Interval Duration `yaml:"interval"` // default 20ms
}

// Stop ends all flows.
type Stop struct {
	// Lost is the number of requests of each flow that may have no reply within 1 s.
	Lost int `yaml:"lost"`
	// Gap, if set, replaces Lost: it is the longest time without a reply that a flow may have.
	Gap Duration `yaml:"gap"`
}

// Endpoints are the new endpoints of a service.
type Endpoints struct {
	Of  string   `yaml:"of"` // service/NAME
	Are []string `yaml:"are"`
}

// Capture watches every interface of a place.
type Capture struct {
	At string `yaml:"at"`
	To string `yaml:"to"` // service/NAME
}

// Captured ends all captures. Packets is the number that each may have seen.
type Captured struct {
	Packets int `yaml:"packets"`
}

// Churn runs ADD and DEL of a pod (a place), which is not attached otherwise, for a time, each round with a new
// namespace and container id.
type Churn struct {
	Pod string   `yaml:"pod"`
	For Duration `yaml:"for"`
}

// Advertise is a router advertisement with one prefix of 64 bits (RFC 4861) and a router lifetime of 30 minutes. The
// uplink of a node ignores it (accept_ra 0), as with static addresses; interfaces that a plugin adds to the node follow
// the kernel's defaults.
type Advertise struct {
	Prefix string `yaml:"prefix"`
}
