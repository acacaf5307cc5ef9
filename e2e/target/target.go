// Package target is the target file: what a plugin needs on each node beside its binary and its conflist, such as a
// daemon, and the cloud in which the nodes stand.
//
// It is data only: it parses and validates files. Package cluster starts what they say, and a backend makes the cloud.
//
// Run its tests: go test ./e2e/target
package target

import (
	"net/netip"
	"time"

	"github.com/cnitest/cnitest/e2e/scenario"
)

// Kind is what a target file says of itself; its apiVersion is that of scenarios.
const Kind = "Target"

// Target is the surroundings of a plugin.
type Target struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`

	// Setup are programs with their arguments that run on each node, one after the other, when it starts and before the
	// daemon does. The program of a command is looked up in /opt/cni/bin and then in the node's PATH, unless it is a
	// path.
	Setup [][]string `yaml:"setup"`
	// Daemon runs on each node; nil means that there is none.
	Daemon *Daemon `yaml:"daemon"`
	// Cloud is the network of the nodes; nil means the LAN that fits the conflist.
	Cloud *Cloud `yaml:"cloud"`
}

// Daemon is a program that a plugin asks, started before any pod is attached and restarted by steps of scenarios.
type Daemon struct {
	// Name is what evidence calls it.
	Name string `yaml:"name"`
	// Command is as those of Target.Setup. It must stay in the foreground.
	Command []string `yaml:"command"`
	// Variants are further commands for the same daemon with other settings, by the name that scenarios give them, of
	// scenario.Variants. Scenarios that want one that is not here are not run.
	Variants map[string][]string `yaml:"variants"`
	// Environment is beside that of the node.
	Environment map[string]string `yaml:"environment"`
	// Ready tells when it serves.
	Ready Ready `yaml:"ready"`
	// Within is how long it may take until it is ready, and until it ends when it is told to; 0 means 10s.
	Within scenario.Duration `yaml:"within"`
	// Owns are files and directories, absolute, in which the daemon keeps its own state. What changes there was not
	// left by a plugin.
	Owns []string `yaml:"owns"`
}

// DefaultWithin is Daemon.Within where a file says nothing.
const DefaultWithin = 10 * time.Second

// Time is Within or its default.
func (d *Daemon) Time() time.Duration {
	if d.Within == 0 {
		return DefaultWithin
	}
	return time.Duration(d.Within)
}

// Ready is one of two signs that a daemon serves.
type Ready struct {
	// Socket is the path of a unix socket that can be connected to.
	Socket string `yaml:"socket"`
	// File is the path of a file that the daemon writes. It is removed before each start.
	File string `yaml:"file"`
}

// The versions of the instance metadata service.
const (
	MetadataV1 = "v1"
	MetadataV2 = "v2"
)

// Cloud is a network as that of EC2: each node has several interfaces (ENIs), each of these has addresses for pods, and
// a metadata service names them. It is routed, IPv4 only, and drops what an ENI sends with an address that is not its
// own.
type Cloud struct {
	// ENIs is how many each node has, the primary one included, 1 to 15; 0 means 1.
	ENIs int `yaml:"enis"`
	// Addresses is how many addresses for pods each ENI has beside its own, 0 to 250.
	Addresses int `yaml:"addresses"`
	// Prefixes is how many prefixes of 28 bits for pods each ENI has, 0 to 15.
	Prefixes int `yaml:"prefixes"`
	// VPC is the cloud's IPv4 network, /16 to /24; empty means 10.0.0.0/16. Nodes are in its lower half.
	VPC string `yaml:"vpc"`
	// Metadata is MetadataV2 (or empty), where every request needs a token, or MetadataV1, which knows no tokens.
	Metadata string `yaml:"metadata"`
	// ExternalSNAT makes the cloud translate what leaves it, as a NAT gateway does; else machines outside see addresses
	// as they are.
	ExternalSNAT bool `yaml:"externalSNAT"`
}

// defaultVPC is outside of the service range that the suite uses.
const defaultVPC = "10.0.0.0/16"

// Network is the VPC.
func (c *Cloud) Network() netip.Prefix {
	prefix, err := netip.ParsePrefix(c.VPC)
	if err != nil {
		return netip.MustParsePrefix(defaultVPC)
	}
	return prefix
}

// Interfaces is ENIs or its default.
func (c *Cloud) Interfaces() int { return max(1, c.ENIs) }
