package kind

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// fakeCluster is an API server with nodes and one namespace, behind a kubectl whose proxy leads to it.
type fakeCluster struct {
	mu        sync.Mutex
	namespace object   // nil if there is none
	nodes     []object // each with metadata and spec
	changes   []string // requests that change something, except for renewals of the namespace
	uids      int
	// before is called before the namespace is read or made. It may change the namespace.
	before func(method string)
	// With stubborn set, nodes do not change.
	stubborn bool
}

// fakeNode returns a ready node that is not a container of kind.
func fakeNode(name string) object {
	return object{
		"metadata": object{"name": name, "annotations": object{}}, "spec": object{},
		"status": object{"addresses": []object{{"type": "InternalIP", "address": "192.0.2.1"}}, "conditions": []object{{"type": "Ready", "status": "True"}}},
	}
}

// fakeNamespace returns a namespace with the uid "left".
func fakeNamespace(labels object) object {
	return object{"metadata": object{
		"name": namespace, "uid": "left", "labels": labels, "annotations": object{renewedAnnotation: "then"},
	}}
}

// ownLabels returns the labels of a namespace that this program made.
func ownLabels() object { return object{ownerLabel: "cnitest"} }

// serve puts a kubectl on the PATH. other is shell code for all commands except proxy.
func (c *fakeCluster) serve(t *testing.T, other string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "kube") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "api")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: c}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	program(t, "kubectl", fmt.Sprintf(`for word; do
	case $word in --unix-socket=*) ln -s %s "${word#*=}"; echo serving; exec sleep 1000 ;; esac
done
%s
`, socket, other))
}

// connect calls serve and opens the API.
func (c *fakeCluster) connect(t *testing.T, other string) *api {
	t.Helper()
	c.serve(t, other)
	a, err := newAPI(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.close() })
	return a
}

func (c *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var body object
	if r.Body != nil {
		_ = json.NewDecoder(r.Body).Decode(&body)
	}
	renewal := r.Method == http.MethodPatch && r.URL.Path == namespacePath
	if r.Method != http.MethodGet && !renewal {
		c.changes = append(c.changes, r.Method+" "+r.URL.Path)
	}
	if c.before != nil && (r.URL.Path == namespacePath || r.URL.Path == "/api/v1/namespaces") {
		c.before(r.Method)
	}
	status, reply := c.answer(r.Method, r.URL.Path, body)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(reply)
}

func (c *fakeCluster) answer(method, path string, body object) (int, any) {
	switch name, isNode := strings.CutPrefix(path, "/api/v1/nodes/"); {
	case path == namespacePath:
		return c.answerNamespace(method, body)
	case isNode:
		for _, n := range c.nodes {
			if n["metadata"].(object)["name"] != name {
				continue
			}
			if method == http.MethodPatch && !c.stubborn {
				merge(n, body)
			}
			return http.StatusOK, n
		}
	case method == http.MethodPost && path == "/api/v1/namespaces":
		if c.namespace != nil {
			return http.StatusConflict, object{"message": "it exists"}
		}
		c.uids++
		c.namespace = body
		c.namespace["metadata"].(object)["uid"] = fmt.Sprintf("made-%d", c.uids)
		return http.StatusCreated, c.namespace
	case path == "/api/v1/nodes":
		return http.StatusOK, object{"items": c.nodes}
	case strings.HasSuffix(path, "/pods"):
		var carriers []object
		for _, n := range c.nodes {
			name := n["metadata"].(object)["name"]
			carriers = append(carriers, object{
				"metadata": object{"name": name}, "spec": object{"nodeName": name},
				"status": object{"phase": "Running"},
			})
		}
		return http.StatusOK, object{"items": carriers}
	case method == http.MethodPost, method == http.MethodPut, path == "/api/v1/namespaces/default",
		strings.HasSuffix(path,
			"/serviceaccounts/default"), strings.HasSuffix(path, "/leases"):
		return http.StatusOK, object{}
	}
	return http.StatusNotFound, object{"message": "it does not exist"}
}

func (c *fakeCluster) answerNamespace(method string, body object) (int, any) {
	if c.namespace == nil {
		return http.StatusNotFound, object{"message": "it does not exist"}
	}
	uid := c.namespace["metadata"].(object)["uid"]
	switch method {
	case http.MethodDelete:
		if options, _ := body["preconditions"].(object); options["uid"] != uid {
			return http.StatusConflict, object{"message": "it has another uid"}
		}
		c.namespace = nil
	case http.MethodPatch:
		if body["metadata"].(object)["uid"] != uid {
			return http.StatusConflict, object{"message": "it has another uid"}
		}
		merge(c.namespace, body)
	}
	return http.StatusOK, c.namespace
}

// merge applies a merge patch (RFC 7396).
func merge(into, change object) {
	for key, value := range change {
		inner, isObject := value.(object)
		present, wasObject := into[key].(object)
		switch {
		case isObject && wasObject:
			merge(present, inner)
		case value == nil:
			maps.DeleteFunc(into, func(k string, _ any) bool { return k == key })
		default:
			into[key] = value
		}
	}
}

// staticProgram returns a file with the ELF header of a static program.
func staticProgram(t *testing.T) string {
	t.Helper()
	header := make([]byte, 64)
	copy(header, "\x7fELF\x02\x01\x01")
	header[16], header[18], header[20], header[52] = 2, 62, 1, 64 // an executable for amd64
	path := filepath.Join(t.TempDir(), "cnitest")
	if err := os.WriteFile(path, header, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
