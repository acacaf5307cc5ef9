package kind

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/kubeapi"
)

// podServer is an API server with pods, each of which is in one phase.
type podServer struct {
	phase string

	mu   sync.Mutex
	pods []object
}

func (s *podServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		var pod object
		_ = json.NewDecoder(r.Body).Decode(&pod)
		s.pods = append(s.pods, pod)
	}
	_ = json.NewEncoder(w).Encode(object{"status": object{"phase": s.phase}})
}

func TestLab_await(t *testing.T) {
	for _, tt := range []struct {
		name string
		// moves says that other pods start now and then, phase is that of the control pod.
		moves     bool
		phase     string
		err, text string
		controls  int
	}{
		{
			name: "nothing moves, and a control pod runs", phase: "Succeeded", controls: 1,
			err: "pod web to run: not within 100ms",
		},
		{
			name: "nothing moves, nor does a control pod run", phase: "Pending", controls: 1,
			err: "pod web to run: not within 100ms",
			text: "a control pod on the network of node/a, for which no plugin is called, did not run: " +
				"pod lab-control-1 to end: not within 100ms",
		},
		{name: "others start", moves: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake := &podServer{phase: tt.phase}
			server := httptest.NewServer(fake)
			defer server.Close()
			backend := &Backend{
				api:   &api{Client: kubeapi.Client{URL: server.URL, HTTP: server.Client()}},
				image: &podImage{}, nodes: []*node{{name: "worker"}},
			}
			n := &cluster.Node{Place: cluster.Place{Name: "node/a"}}
			l := &lab{backend: backend, name: "lab", nodes: []*cluster.Node{n}}
			start := time.Now()
			ctx, record := disturbance.Begin(t.Context())
			err := l.await(ctx, 100*time.Millisecond, n, "pod web to run", func() (bool, error) {
				if tt.moves {
					l.moves.Add(1)
				}
				return tt.moves && time.Since(start) > 500*time.Millisecond, nil
			})
			if got := message(err); got != tt.err {
				t.Errorf("got  %s\nwant %s", got, tt.err)
			}
			found := record.Finding()
			if found.Lost != (tt.text != "") || !strings.HasPrefix(found.Text, tt.text) {
				t.Errorf("got %+v, want %q", found, tt.text)
			}
			if len(fake.pods) != tt.controls {
				t.Fatalf("got %d control pods, want %d", len(fake.pods), tt.controls)
			}
			for _, pod := range fake.pods {
				if pod["spec"].(object)["hostNetwork"] != true {
					t.Errorf("got %v, want a pod on the node's network", pod)
				}
			}
		})
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
