package agent

import (
	"sync"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
)

// order separates operations that a runtime must not run at the same time: those for one container, and GC of a network
// beside ADD and DEL of it (SPEC.md, sections 2 and 3). The later one waits.
type order struct {
	mu         sync.Mutex
	containers map[string]*sync.Mutex
	networks   map[string]*sync.RWMutex
}

// enter waits until an operation may run, and returns a function that must be called when it ends.
func (o *order) enter(req cni.Request) (leave func()) {
	// libcni refuses a conflist that cannot be read.
	list, _ := conflist.ParseRendered(req.Conflist)
	o.mu.Lock()
	if o.containers == nil {
		o.containers, o.networks = map[string]*sync.Mutex{}, map[string]*sync.RWMutex{}
	}
	network := o.networks[list.Name]
	if network == nil {
		network = &sync.RWMutex{}
		o.networks[list.Name] = network
	}
	container := o.containers[req.ContainerID]
	if container == nil {
		container = &sync.Mutex{}
		o.containers[req.ContainerID] = container
	}
	o.mu.Unlock()
	switch req.Verb {
	case cni.GC:
		network.Lock()
		return network.Unlock
	case cni.Status:
		return func() {}
	}
	container.Lock()
	network.RLock()
	return func() {
		network.RUnlock()
		container.Unlock()
	}
}
