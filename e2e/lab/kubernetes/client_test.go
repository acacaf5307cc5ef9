package kubernetes

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeAPI answers like an API server with one kind of custom resources, some of whose requests fail.
type fakeAPI struct {
	*httptest.Server
	t       *testing.T
	asked   int      // for the definition
	deleted []string // paths
}

const ippools = `{"metadata": {"name": "ippools.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
	"names": {"plural": "ippools"}, "versions": [{"name": "v1alpha1", "served": false}, {"name": "v1", "served": true}]},
	"status": {"conditions": [{"type": "Established", "status": "STATUS"}]}}`

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+testAPI.Token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	answer := func(text string) {
		if _, err := w.Write([]byte(text)); err != nil {
			f.t.Error(err)
		}
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /readyz":
		answer("ok")
	case "POST " + definitions:
		var d Definition
		if err := json.NewDecoder(r.Body).Decode(&d); err != nil || d.Name() != "ippools.example.com" {
			w.WriteHeader(http.StatusBadRequest)
			answer(`{"kind": "Status", "message": "spec.names: Required value"}`)
		}
	case "GET " + definitions:
		answer(`{"items": [` + ippools + `]}`)
	case "GET " + definitions + "/ippools.example.com":
		f.asked++
		answer(strings.Replace(ippools, "STATUS", map[bool]string{true: "True", false: "False"}[f.asked > 2], 1))
	case "GET /apis/example.com/v1/ippools":
		answer(`{"items": [{"metadata": {"name": "a", "namespace": "kube-system"}}, {"metadata": {"name": "b", "namespace": "x"}}]}`)
	case "GET /apis/coordination.k8s.io/v1/leases":
		answer(`{"items": [{"metadata": {"name": "leader", "namespace": "kube-system"}},
			{"metadata": {"name": "apiserver-1", "namespace": "kube-system", "labels": {"` + serverLabel + `": "kube-apiserver"}}}]}`)
	default:
		if r.Method != http.MethodDelete {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		f.deleted = append(f.deleted, r.URL.Path)
		if strings.HasSuffix(r.URL.Path, "/b") {
			w.WriteHeader(http.StatusNotFound) // somebody else deleted it
		}
	}
}

var testAPI = New("/run/kubernetes")

func startFake(t *testing.T) (*fakeAPI, *Client) {
	f := &fakeAPI{t: t}
	f.Server = httptest.NewTLSServer(f)
	t.Cleanup(f.Close)
	client := NewClient(testAPI, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", f.Listener.Addr().String())
	})
	t.Cleanup(client.Close)
	return f, client
}

func TestClient(t *testing.T) {
	f, client := startFake(t)
	if err := client.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.Define(t.Context(), Definition{"metadata": map[string]any{"name": "ippools.example.com"}}); err != nil {
		t.Fatal(err)
	}
	if f.asked != 3 {
		t.Errorf("asked %d times for the definition, want 3: until it was established", f.asked)
	}
	if err := client.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/apis/example.com/v1/namespaces/kube-system/ippools/a", "/apis/example.com/v1/namespaces/x/ippools/b",
		"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/leader",
	}
	if diff := cmp.Diff(want, f.deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
	err := client.Define(t.Context(), Definition{"metadata": map[string]any{"name": "other"}})
	const refused = "other: POST " + definitions + ": 400 spec.names: Required value"
	if err == nil || err.Error() != refused {
		t.Errorf("got error %v, want %s", err, refused)
	}
}

func TestReadDefinitions(t *testing.T) {
	const one = "kind: CustomResourceDefinition\nmetadata: {name: ippools.example.com}\nspec: {names: {plural: ippools}}\n"
	for _, tt := range []struct {
		name, text, err string
		want            []string
	}{
		{name: "one", text: one, want: []string{"ippools.example.com"}},
		{
			name: "a DaemonSet's manifest", text: "---\nkind: DaemonSet\nmetadata: {name: x}\n---\n" + one + "---\n" +
				one,
			want: []string{"ippools.example.com", "ippools.example.com"},
		},
		{name: "JSON", text: `{"kind": "CustomResourceDefinition", "metadata": {"name": "a.b"}}`, want: []string{"a.b"}},
		{name: "none", text: "kind: DaemonSet\n", err: "no CustomResourceDefinition in it"},
		{name: "no name", text: "kind: CustomResourceDefinition\n", err: "a CustomResourceDefinition has no metadata.name"},
		{name: "no YAML", text: "kind: [\n", err: "yaml: line"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "crd.yaml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			list, err := ReadDefinitions(file)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got error %v, want %s", err, tt.err)
				}
				return
			}
			var names []string
			for _, d := range list {
				names = append(names, d.Name())
			}
			if err != nil || !slices.Equal(names, tt.want) {
				t.Errorf("got %q, %v, want %q", names, err, tt.want)
			}
			if tt.name == "one" {
				if _, err := json.Marshal(list[0]); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
