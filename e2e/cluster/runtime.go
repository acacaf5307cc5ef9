package cluster

import (
	"context"
	"encoding/json"
	"net/netip"

	"github.com/cnitest/cnitest/e2e/scenario"
)

// Runtime is a cluster whose pods are attached by a container runtime of its own, on behalf of a kubelet, and whose
// services a proxy of its own programs. A Cluster may implement it; on one that does not, agents take both parts. Its
// methods may be called concurrently.
type Runtime interface {
	// Attach makes a pod and returns when its network stands. On an error the pod may exist: Detach it.
	Attach(ctx context.Context, node *Node, pod string) (*Attachment, error)
	// Detach deletes a pod and returns when its runtime has deleted its network. Detaching one that does not exist
	// succeeds.
	Detach(ctx context.Context, pod string) error
	// Attachments are all that a node's runtime has of the conflist's network, those of others included.
	Attachments(ctx context.Context, node *Node) ([]Attachment, error)
	// MakeService makes a service without endpoints and returns its cluster addresses.
	MakeService(ctx context.Context, s scenario.Service) ([]netip.Addr, error)
	// SetEndpoints replaces a service's endpoints and returns when the proxies of all nodes have them.
	SetEndpoints(ctx context.Context, service string, endpoints []Endpoint) error
	// Trouble is what went wrong with the cluster itself since the last time it was asked: nodes that were not ready,
	// or an API server that did not answer.
	Trouble() error
	// Evidence is what the cluster has to say of a failure, by title.
	Evidence(ctx context.Context) map[string]string
}

// Attachment is a pod's interface as a runtime made it.
type Attachment struct {
	Pod, ContainerID, IfName string
	// Netns is the pod's namespace on its node.
	Netns string
	// Result is what ADD returned.
	Result json.RawMessage
}

// Endpoint is where a service leads.
type Endpoint struct {
	Address netip.Addr
	Port    uint16
	// Node is the one on which it runs; nil for hosts beyond the cluster.
	Node *Node
}

// RuntimeOf is the cluster's own runtime; nil where agents take its part.
func RuntimeOf(c Cluster) Runtime {
	r, _ := c.(Runtime)
	return r
}

// HasRuntime reports whether the clusters of a backend have a runtime of their own.
func HasRuntime(b Backend) bool {
	r, ok := b.(RuntimeBackend)
	return ok && r.HasRuntime()
}

// UnfitError says that this machine or backend cannot run what was asked for, whatever the plugin does.
type UnfitError struct {
	Reason string
	// Lacks is the feature that the kernel was built without, with its option; empty where something else is missing.
	Lacks string
}

// Error returns the reason.
func (e *UnfitError) Error() string { return e.Reason }

// BeyondError says what a cluster does not do by its nature, so that nobody's verdict suffers from it.
type BeyondError struct{ Reason string }

// Error is the reason.
func (e *BeyondError) Error() string { return e.Reason }

// Story is a behaviour that takes a whole cluster to be seen, with its runtime, its DNS and its controllers: a scenario
// that a backend tells, on nodes named a and b.
type Story struct {
	Name, Description string
	Features          []scenario.Feature
	Covers            []string
	Run               func(ctx context.Context, c Cluster) error
}

// StoriesOf are those that a backend tells beside the scenario files; most tell none.
func StoriesOf(b Backend) []Story {
	if teller, ok := b.(StoryBackend); ok {
		return teller.Stories()
	}
	return nil
}
