// Package verb does the work that is the same for the verbs of all chained plugins: it opens the namespaces of the node
// and of the pod, opens the records, and goes through them in GC. Its errors have the spec's codes.
//
// It is not a plugin skeleton (that is pkg/skel of containernetworking/cni), and it knows nothing of what a plugin
// makes.
//
// Tests: go test ./plugin/internal/verb (as root)
package verb

import (
	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// Call holds the namespaces and the prevResult of an ADD or a CHECK. It is not safe for concurrent use.
type Call struct {
	Prev      *current.Result // never nil
	Host, Pod *kernel.Namespace
}

// Open reads the result of the plugins before this one, which has to exist, and opens both namespaces. The calling
// thread is in the node's namespace. An error has code 7 for prevResult and code 4 for CNI_NETNS. Close must follow.
func Open(conf *chain.Config, args *skel.CmdArgs) (*Call, error) {
	prev, err := conf.RequirePrevResult()
	if err != nil {
		return nil, err
	}
	host, err := kernel.Current()
	if err != nil {
		return nil, err
	}
	pod, err := OpenPod(host, args.Netns)
	if err != nil {
		host.Close()
		return nil, err
	}
	return &Call{prev, host, pod}, nil
}

// Close closes both namespaces.
func (c *Call) Close() {
	c.Pod.Close()
	c.Host.Close()
}

// OpenPod opens the namespace of a pod, which must not be the node's own: in that case the plugin before has put its
// link on the node. skel notices that only after the plugin has done its work. An error has code 4.
func OpenPod(host *kernel.Namespace, path string) (*kernel.Namespace, error) {
	pod, err := kernel.Open(path)
	if err != nil {
		return nil, chain.BadEnvironment("CNI_NETNS: %w", err)
	}
	if pod.Is(host) {
		pod.Close()
		return nil, chain.BadEnvironment("CNI_NETNS %q is the namespace of the node, want that of a pod", path)
	}
	return pod, nil
}
