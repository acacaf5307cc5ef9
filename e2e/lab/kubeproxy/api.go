package kubeproxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// object is an object of Kubernetes.
type object = map[string]any

// api is as much of a Kubernetes API as kube-proxy asks for: lists and watches of a few kinds of objects, and nothing
// that somebody writes is kept.
type api struct {
	mu      sync.Mutex
	version int
	kinds   map[string]*kind // by the path of the list
}

// kind contains the objects of a kind and those who watch them.
type kind struct {
	name, apiVersion string
	objects          map[string]object // by name
	watchers         map[chan change]bool
}

// change is an event of a watch.
type change struct {
	Type   string `json:"type"`
	Object object `json:"object"`
}

// These are the paths of the kinds that kube-proxy watches.
const (
	services   = "/api/v1/services"
	endpoints  = "/apis/discovery.k8s.io/v1/endpointslices"
	nodes      = "/api/v1/nodes"
	serviceNet = "/apis/networking.k8s.io/v1/servicecidrs"
)

func newAPI() *api {
	a := &api{version: 1, kinds: map[string]*kind{}}
	for path, k := range map[string]kind{
		services: {name: "Service", apiVersion: "v1"}, nodes: {name: "Node", apiVersion: "v1"},
		endpoints:  {name: "EndpointSlice", apiVersion: "discovery.k8s.io/v1"},
		serviceNet: {name: "ServiceCIDR", apiVersion: "networking.k8s.io/v1"},
	} {
		k.objects, k.watchers = map[string]object{}, map[chan change]bool{}
		a.kinds[path] = &k
	}
	return a
}

// set replaces the objects of a kind, and tells those who watch. Objects have a key name.
func (a *api) set(path string, wanted map[string]object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.kinds[path]
	for name, old := range k.objects {
		if wanted[name] == nil {
			delete(k.objects, name)
			k.tell(change{"DELETED", a.stamped(k, name, old)})
		}
	}
	for name, fresh := range wanted {
		old, known := k.objects[name]
		switch {
		case !known:
			k.objects[name] = a.stamped(k, name, fresh)
			k.tell(change{"ADDED", k.objects[name]})
		case !same(old, fresh):
			k.objects[name] = a.stamped(k, name, fresh)
			k.tell(change{"MODIFIED", k.objects[name]})
		}
	}
}

// same compares what an object says, without its metadata.
func same(a, b object) bool {
	text := func(o object) string {
		o = clone(o)
		delete(o, "metadata")
		delete(o, "kind")
		delete(o, "apiVersion")
		data, _ := json.Marshal(o) // cannot fail: it was written here
		return string(data)
	}
	return text(a) == text(b)
}

func clone(o object) object {
	c := object{}
	for key, value := range o {
		c[key] = value
	}
	return c
}

// stamped returns an object with the metadata that every object has, of a new version.
func (a *api) stamped(k *kind, name string, o object) object {
	a.version++
	o = clone(o)
	meta := object{}
	if old, ok := o["metadata"].(object); ok {
		meta = clone(old)
	}
	meta["name"], meta["uid"], meta["resourceVersion"] = name, k.name+"-"+name, strconv.Itoa(a.version)
	if k.name == "Service" || k.name == "EndpointSlice" {
		meta["namespace"] = "default"
	}
	o["metadata"], o["kind"], o["apiVersion"] = meta, k.name, k.apiVersion
	return o
}

// tell tells all who watch. Nobody is that slow: changes wait in a queue.
func (k *kind) tell(c change) {
	for w := range k.watchers {
		w <- c
	}
}

// ServeHTTP answers lists and watches. Everything that is written, such as events, succeeds.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	k, known := a.kinds[r.URL.Path]
	switch name, isNode := strings.CutPrefix(r.URL.Path, nodes+"/"); {
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusCreated)
		write(w, object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case known && r.URL.Query().Get("watch") != "":
		a.watch(w, r, k)
	case known:
		write(w, a.list(k))
	case isNode:
		a.mu.Lock()
		o := a.kinds[nodes].objects[name]
		a.mu.Unlock()
		if o == nil {
			a.refuse(w, name)
			return
		}
		write(w, o)
	default:
		a.refuse(w, r.URL.Path)
	}
}

func (a *api) refuse(w http.ResponseWriter, what string) {
	w.WriteHeader(http.StatusNotFound)
	write(w, object{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": http.StatusNotFound,
		"message": fmt.Sprintf("no %s here", what),
	})
}

func write(w http.ResponseWriter, o any) { _ = json.NewEncoder(w).Encode(o) } // the client may be gone

func (a *api) list(k *kind) object {
	a.mu.Lock()
	defer a.mu.Unlock()
	items := []object{}
	for _, o := range k.objects {
		items = append(items, o)
	}
	return object{
		"kind": k.name + "List", "apiVersion": k.apiVersion, "items": items,
		"metadata": object{"resourceVersion": strconv.Itoa(a.version)},
	}
}

// watch streams changes; with sendInitialEvents after all objects that there are and a bookmark (KEP-3157).
func (a *api) watch(w http.ResponseWriter, r *http.Request, k *kind) {
	changes := make(chan change, 1000)
	a.mu.Lock()
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range k.objects {
			changes <- change{"ADDED", o}
		}
		changes <- change{"BOOKMARK", object{
			"kind": k.name, "apiVersion": k.apiVersion, "metadata": object{
				"resourceVersion": strconv.Itoa(a.version), "annotations": object{"k8s.io/initial-events-end": "true"},
			},
		}}
	}
	k.watchers[changes] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(k.watchers, changes)
		a.mu.Unlock()
	}()
	out := http.NewResponseController(w)
	_ = out.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case c := <-changes:
			write(w, c)
			if out.Flush() != nil {
				return
			}
		}
	}
}
