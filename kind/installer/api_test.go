package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// server answers as an API server; a DaemonSet's name is the status and the timestamp of its deletion.
func server(t *testing.T) *api {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("got authorization %q, want that of the token", got)
		}
		switch r.URL.Path {
		case "/api/v1/nodes/worker":
			fmt.Fprint(w, `{"spec": {"podCIDR": "172.18.129.0/24"}}`)
		case "/apis/apps/v1/namespaces/kube-system/daemonsets/stays":
			fmt.Fprint(w, `{"metadata": {}}`)
		case "/apis/apps/v1/namespaces/kube-system/daemonsets/going":
			fmt.Fprint(w, `{"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}`)
		case "/apis/apps/v1/namespaces/kube-system/daemonsets/forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "/apis/apps/v1/namespaces/kube-system/daemonsets/unavailable":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600))
	return &api{client: s.Client(), url: s.URL, dir: dir}
}

func TestAPI_podCIDR(t *testing.T) {
	got, err := server(t).podCIDR(t.Context(), "worker")
	if err != nil || got != "172.18.129.0/24" {
		t.Errorf("got %q, %v, want 172.18.129.0/24", got, err)
	}
}

func TestAPI_deleted(t *testing.T) {
	for _, tt := range []struct {
		name    string
		want    bool
		wantErr string
	}{
		{name: "stays"},
		{name: "going", want: true},
		{name: "gone", want: true},
		{name: "forbidden", want: true},
		{name: "unavailable", wantErr: "/apis/apps/v1/namespaces/kube-system/daemonsets/unavailable: the API server answers 503 Service Unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := server(t).deleted(t.Context(), "kube-system", tt.name)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.wantErr {
				t.Errorf("got %t, %q, want %t, %q", got, text, tt.want, tt.wantErr)
			}
		})
	}
}
