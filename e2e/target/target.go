// Package target reads the target file, which describes what a plugin needs on each node besides its binary and its
// conflist, such as a daemon, and the cloud of the nodes.
//
// It only parses and validates files. Package cluster starts the programs that they name, and a backend makes the
// cloud.
//
// Run its tests: go test ./e2e/target
package target

import (
	"net/netip"
	"time"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Kind is the kind of a target file; its apiVersion is that of scenarios.
const Kind = "Target"

// Target is the environment of a plugin.
type Target struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`

	// Implementation says whose the plugins are, for the report; nil if nobody is named.
	Implementation *report.Origin `yaml:"implementation"`
	// Setup contains programs with their arguments. They run on each node, one after the other, when it starts and
	// before its daemon starts. A program is searched for in /opt/cni/bin and then in the node's PATH, unless it is a
	// path.
	Setup [][]string `yaml:"setup"`
	// Daemon runs on each node; nil means that there is none.
	Daemon *Daemon `yaml:"daemon"`
	// Devices are the devices of each node for its pods, one each, as the conflist's main plugin names them: for
	// example PCI addresses of virtual functions. Empty means the device in the conflist, or devices that the backend
	// makes.
	Devices []string `yaml:"devices"`
	// OldConflist is the conflist of an earlier version (Options.OldBinDir of package e2e), if it differs: a path
	// relative to the target file, which Parse replaces by one that starts at the working directory. Its network has
	// the same name, and its main plugin the same type; nodes get its other keys, with the addresses and uplink of the
	// conflist.
	OldConflist string `yaml:"oldConflist"`
	// Cloud is the network of the nodes; nil means a LAN that fits the conflist.
	Cloud *Cloud `yaml:"cloud"`
	// Kubernetes is an API that the nodes reach; nil means that there is none.
	Kubernetes *Kubernetes `yaml:"kubernetes"`

	// Source is the text of the file.
	Source []byte `yaml:"-"`
}

// GivenDevices returns Devices, or nil if t is nil.
func (t *Target) GivenDevices() []string {
	if t == nil {
		return nil
	}
	return t.Devices
}

// Earlier returns OldConflist, or nothing if t is nil.
func (t *Target) Earlier() string {
	if t == nil {
		return ""
	}
	return t.OldConflist
}

// GivenDaemon returns Daemon, or nil if t is nil.
func (t *Target) GivenDaemon() *Daemon {
	if t == nil {
		return nil
	}
	return t.Daemon
}

// API returns Kubernetes, or nil if t is nil.
func (t *Target) API() *Kubernetes {
	if t == nil {
		return nil
	}
	return t.Kubernetes
}

// Kubernetes is a Kubernetes API, without controllers and kubelets: an API server and its etcd, from the same places as
// the programs of Setup. Each node reaches it at an address of its own, and a plugin finds it by a kubeconfig.
type Kubernetes struct {
	// CRDs are files with custom resource definitions. A pattern (path.Match) names several. A relative path starts at
	// the target file; Parse replaces it by one that starts at the working directory.
	CRDs []string `yaml:"crds"`
	// Kubeconfig is the absolute path of the kubeconfig on each node; empty means wherever the conflist has the key
	// kubeconfig.
	Kubeconfig string `yaml:"kubeconfig"`
}

// Daemon is a program that a plugin talks to. It is started before any pod is attached; steps of scenarios restart it.
type Daemon struct {
	// Name is its name in evidence.
	Name string `yaml:"name"`
	// Command has the form of Target.Setup. The program must stay in the foreground.
	Command []string `yaml:"command"`
	// Variants are further commands for the same daemon with other settings, by their names in scenarios (see
	// scenario.Variants). A scenario does not run if a variant that it needs is missing.
	Variants map[string][]string `yaml:"variants"`
	// OldCommand is the command for the program of an earlier version (Options.OldBinDir of package e2e), if its flags
	// differ; empty means Command.
	OldCommand []string `yaml:"oldCommand"`
	// Environment is added to that of the node.
	Environment map[string]string `yaml:"environment"`
	// Ready says when it is ready.
	Ready Ready `yaml:"ready"`
	// Within limits how long it may take to become ready, and to end when it is told to; 0 means 10s.
	Within scenario.Duration `yaml:"within"`
	// Open are the TCP and UDP ports of the daemon that pods may reach, such as one of metrics for a Prometheus that is
	// a pod.
	Open []uint16 `yaml:"open"`
	// Repairs is how long the daemon needs at most to restore what another program removed from a node; 0 means that it
	// restores nothing. Scenarios with events wait that long before they go on.
	Repairs scenario.Duration `yaml:"repairs"`
	// Owns contains absolute paths of files and directories in which the daemon keeps its own state. Changes there do
	// not count as left behind by a plugin.
	Owns []string `yaml:"owns"`
}

// DefaultWithin is the default of Daemon.Within.
const DefaultWithin = 10 * time.Second

// Time returns Within or its default.
func (d *Daemon) Time() time.Duration {
	if d.Within == 0 {
		return DefaultWithin
	}
	return time.Duration(d.Within)
}

// Ready is one of two signs that a daemon is ready. Exactly one is set.
type Ready struct {
	// Socket is the path of a unix socket that accepts connections.
	Socket string `yaml:"socket"`
	// File is the path of a file that the daemon writes. It is removed before each start.
	File string `yaml:"file"`
}

// These are the versions of the instance metadata service.
const (
	MetadataV1 = "v1"
	MetadataV2 = "v2"
)

// Cloud is a network like that of EC2: each node has several interfaces (ENIs), each ENI has addresses for pods, and a
// metadata service lists them. It is routed, IPv4 only, and drops packets that an ENI sends with an address other than
// its own.
type Cloud struct {
	// ENIs is the number of ENIs of each node, including the primary one, 1 to 15; 0 means 1.
	ENIs int `yaml:"enis"`
	// Addresses is the number of addresses for pods of each ENI besides its own, 0 to 250.
	Addresses int `yaml:"addresses"`
	// Prefixes is the number of prefixes of 28 bits for pods of each ENI, 0 to 15.
	Prefixes int `yaml:"prefixes"`
	// IPv6Prefix gives the primary ENI of each node a prefix of 80 bits for pods. Nothing routes it: with addresses of
	// it pods reach their own node only, as scenarios about that node alone need.
	IPv6Prefix bool `yaml:"ipv6Prefix"`
	// VPC is the cloud's IPv4 network, /16 to /24; empty means 10.0.0.0/16. Nodes are in its lower half.
	VPC string `yaml:"vpc"`
	// Metadata is MetadataV2 (or empty), which requires a token for every request, or MetadataV1, which has no tokens.
	Metadata string `yaml:"metadata"`
	// ExternalSNAT makes the cloud translate the source of packets that leave it, as a NAT gateway does; otherwise
	// machines outside see the addresses of pods.
	ExternalSNAT bool `yaml:"externalSNAT"`
}

// defaultVPC does not overlap with the service range of the suite.
const defaultVPC = "10.0.0.0/16"

// Network returns the VPC.
func (c *Cloud) Network() netip.Prefix {
	prefix, err := netip.ParsePrefix(c.VPC)
	if err != nil {
		return netip.MustParsePrefix(defaultVPC)
	}
	return prefix
}

// Interfaces returns ENIs or its default.
func (c *Cloud) Interfaces() int { return max(1, c.ENIs) }
