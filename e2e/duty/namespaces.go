package duty

import (
	"context"
	"sync"

	"github.com/cnitest/cnitest/e2e/agent"
)

// namespaces are those of a runtime's pods. Its method may be called concurrently.
type namespaces struct {
	agent *agent.Client
	mu    *sync.Mutex
	paths map[string]string
}

func newNamespaces(node *agent.Client) namespaces {
	return namespaces{agent: node, mu: &sync.Mutex{}, paths: map[string]string{}}
}

// of returns the path of a pod's namespace, which it makes once.
func (n namespaces) of(ctx context.Context, pod string) (path string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.paths[pod] == "" {
		if n.paths[pod], err = n.agent.CreateNamespace(ctx, pod); err != nil {
			return "", err
		}
	}
	return n.paths[pod], nil
}
