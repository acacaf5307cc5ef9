package cluster

import (
	"context"
	"encoding/json"
	"net/netip"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Runtime is a cluster whose pods are attached by a container runtime. A Cluster may implement it; otherwise agents
// attach them. Its methods may be called concurrently.
type Runtime interface {
	// Attach makes a pod and returns when its network is ready. After an error the pod may exist: Detach it.
	Attach(ctx context.Context, node *Node, pod string) (*Attachment, error)
	// Detach deletes a pod and returns when its runtime has deleted its network. A pod that does not exist is no error.
	Detach(ctx context.Context, pod string) error
	// Attachments returns all attachments of a node's runtime to the conflist's network, including those of others.
	Attachments(ctx context.Context, node *Node) ([]Attachment, error)
	// Trouble returns problems of the cluster itself since the last call: nodes that were not ready, or an API server
	// that did not answer.
	Trouble() error
	// Evidence returns what the cluster knows about a failure, by title.
	Evidence(ctx context.Context) map[string]string
}

// Proxies is a cluster whose services are programmed by its own proxies. A Cluster may implement it; otherwise agents
// program them. Its methods may be called concurrently.
type Proxies interface {
	// MakeService makes a service without endpoints and returns its cluster addresses.
	MakeService(ctx context.Context, s scenario.Service) ([]netip.Addr, error)
	// SetEndpoints replaces a service's endpoints and returns when the proxies of all nodes have them.
	SetEndpoints(ctx context.Context, service string, endpoints []Endpoint) error
}

// Attachment is a pod's interface as a runtime made it.
type Attachment struct {
	Pod, ContainerID, IfName string
	// Netns is the pod's namespace on its node.
	Netns string
	// Result is the result of ADD.
	Result json.RawMessage
}

// Endpoint is an endpoint of a service.
type Endpoint struct {
	Address netip.Addr
	Port    uint16
	// Node is the node on which it runs; nil for hosts outside the cluster.
	Node *Node
}

// RuntimeOf returns the cluster's own runtime; nil if agents attach pods.
func RuntimeOf(c Cluster) Runtime {
	r, _ := c.(Runtime)
	return r
}

// ProxiesOf returns the cluster's own proxies; nil if agents program the services.
func ProxiesOf(c Cluster) Proxies {
	p, _ := c.(Proxies)
	return p
}

// HasRuntime reports whether the clusters of a backend have a runtime of their own.
func HasRuntime(b Backend) bool {
	r, ok := b.(RuntimeBackend)
	return ok && r.HasRuntime()
}

// UnfitError says that this machine or backend cannot run what was asked for, whatever the plugin does.
type UnfitError struct {
	Reason string
	// Lacks is the feature that the kernel was built without, with its option, or the program that is not installed;
	// empty where something else is missing. Plugin is the plugin that asked for it; empty where none did.
	Lacks, Plugin string
}

// Error returns the reason.
func (e *UnfitError) Error() string { return e.Reason }

// BeyondError says what a cluster cannot do by design. Such a result does not count for any verdict.
type BeyondError struct{ Reason string }

// Error returns the reason.
func (e *BeyondError) Error() string { return e.Reason }

// Story is a behaviour that only a whole cluster shows, with its runtime, its DNS and its controllers: a scenario of a
// backend, on nodes named a and b.
type Story struct {
	Name, Description string
	Features          []scenario.Feature
	Covers            []string
	Run               func(ctx context.Context, c Cluster) error
}

// Measured is a cluster that measured times while a story ran on it.
type Measured interface {
	Cluster
	// Figures returns what was measured until now.
	Figures() []report.Figure
}

// StoriesOf returns the scenarios that a backend has besides the scenario files; most have none.
func StoriesOf(b Backend) []Story {
	if teller, ok := b.(StoryBackend); ok {
		return teller.Stories()
	}
	return nil
}
