// Package environment contains the nodes, hosts, pods and services of one running scenario, and finds them by name and
// by address.
//
// It changes none of them: package runner does, and records in a Pod what it did to it.
//
// Run its tests: go test ./e2e/internal/environment
package environment

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Environment is a scenario's cluster while the scenario runs. Its methods may be called concurrently.
type Environment struct {
	Scenario *scenario.Scenario
	Cluster  cluster.Cluster
	// Pods are the pods of the scenario, in its order; a pod with a count occurs that many times.
	Pods []*Pod
	// Services are the services of the scenario, once they have addresses.
	Services []*Service
	// States are the states of nodes by name.
	States map[string]*NodeState

	mu    sync.Mutex // guards notes, and what is not exported of pods
	notes []string
}

// New returns the environment of a scenario on a cluster that was started for it. It changes nothing on the cluster.
func New(sc *scenario.Scenario, c cluster.Cluster) *Environment {
	e := &Environment{Scenario: sc, Cluster: c, States: map[string]*NodeState{}}
	// The pods with a count share the addresses of a node that the pods without a count leave.
	room := map[string]int{}
	for _, n := range c.Nodes() {
		room[n.Name] = n.PoolSize
	}
	for _, spec := range sc.Pods {
		if name := scenario.NodePlace + "/" + spec.Node; spec.Count == 0 &&
			spec.OfConflist(scenario.DefaultInterface) &&
			room[name] > 1 {
			room[name]--
		}
	}
	for _, spec := range sc.Pods {
		node := e.Node(scenario.NodePlace + "/" + spec.Node)
		if spec.Count == 0 {
			e.Pods = append(e.Pods, e.NewPod(spec, node, spec.Name, spec.ContainerID))
			continue
		}
		count := spec.Count
		if size := room[node.Name]; size > 0 && size < count {
			e.Note("%s has %d addresses: %d pods of the scenario's %d", node.Name, node.PoolSize, size, count)
			count = size
		}
		for i := range count {
			id := spec.ContainerID
			if id != "" {
				id = fmt.Sprintf("%s%d", id, i)
			}
			e.Pods = append(e.Pods, e.NewPod(spec, node, fmt.Sprintf("%s-%d", spec.Name, i), id))
		}
	}
	return e
}

// PlainNodes returns two nodes without special properties: a run begins on such nodes, and so does a soak.
func PlainNodes() []scenario.Node { return []scenario.Node{{Name: "a"}, {Name: "b"}} }

// NewPod returns a pod that is not among Pods and whose namespace does not exist yet. An empty container ID means one
// derived from the names of the scenario and the pod.
func (e *Environment) NewPod(spec scenario.Pod, node *cluster.Node, name, containerID string) *Pod {
	if containerID == "" {
		// As long as those of containerd and CRI-O.
		sum := sha256.Sum256([]byte(e.Scenario.Name + "/" + name))
		containerID = hex.EncodeToString(sum[:])
	}
	return &Pod{
		Place: cluster.Place{
			Name: scenario.PodPlace + "/" + name, Agent: node.Agent, Netns: agent.NamespacePath(name),
			Interfaces: map[string][]netip.Addr{},
		},
		Spec: spec, Node: node, Networks: map[string]Network{}, Namespace: name,
		mu: &e.mu, containerID: containerID, attached: map[string]bool{},
		given: map[string][]netip.Addr{}, released: map[string]bool{},
	}
}

// Note adds a note about this run of the scenario, once.
func (e *Environment) Note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(e.notes, text) {
		e.notes = append(e.notes, text)
	}
}

// Notes returns all notes in one line.
func (e *Environment) Notes() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.notes, "; ")
}

// Node returns the node of a place such as "node/a"; nil if there is none.
func (e *Environment) Node(place string) *cluster.Node {
	for _, n := range e.Cluster.Nodes() {
		if n.Name == place {
			return n
		}
	}
	return nil
}

// PodsNamed returns the pods of a place: one, or all pods of a declaration with a count.
func (e *Environment) PodsNamed(place string) []*Pod {
	var found []*Pod
	for _, p := range e.Pods {
		if p.Name == place || scenario.PodPlace+"/"+p.Spec.Name == place {
			found = append(found, p)
		}
	}
	return found
}

// Service returns the service of a place such as "service/dns"; nil if there is none.
func (e *Environment) Service(place string) *Service {
	for _, s := range e.Services {
		if s.Name == place {
			return s
		}
	}
	return nil
}

// Places returns the namespaces that a place of the scenario stands for, one or more. It is an error if there is none.
func (e *Environment) Places(name string) ([]*cluster.Place, error) {
	kind, rest, _ := strings.Cut(name, "/")
	if s := e.Service(name); s != nil {
		return []*cluster.Place{&s.Place}, nil
	}
	switch kind {
	case scenario.NodePlace:
		if n := e.Node(name); n != nil {
			return []*cluster.Place{&n.Place}, nil
		}
	case scenario.HostPlace:
		if h, ok := e.Cluster.Hosts()[rest]; ok {
			return []*cluster.Place{h}, nil
		}
	case scenario.PodPlace:
		var places []*cluster.Place
		for _, p := range e.PodsNamed(name) {
			places = append(places, &p.Place)
		}
		if len(places) > 0 {
			return places, nil
		}
	}
	return nil, fmt.Errorf("%s does not exist in this cluster", name)
}

// RunsOn reports whether a place is a node or one of its pods.
func (e *Environment) RunsOn(place *cluster.Place, node *cluster.Node) bool {
	if place == &node.Place {
		return true
	}
	return slices.ContainsFunc(e.Pods, func(p *Pod) bool { return &p.Place == place && p.Node == node })
}

// NodeOf returns the node that a place is or runs on; nil for hosts.
func (e *Environment) NodeOf(place *cluster.Place) *cluster.Node {
	for _, n := range e.Cluster.Nodes() {
		if e.RunsOn(place, n) {
			return n
		}
	}
	return nil
}
