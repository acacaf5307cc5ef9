package kind

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cluster"
)

func cordonedNode(name string) object {
	n := fakeNode(name)
	merge(n, object{"spec": object{"unschedulable": true}})
	return n
}

func TestLab_schedulable(t *testing.T) {
	for _, tt := range []struct {
		name    string
		nodes   []object
		want    int
		wantErr string
	}{
		{name: "the second", nodes: []object{cordonedNode("a"), fakeNode("b")}, want: 1},
		{
			name: "none", nodes: []object{cordonedNode("a"), cordonedNode("b")},
			wantErr: "no node can be drained: somebody has taken all of them out of use (kubectl get nodes: SchedulingDisabled)",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &fakeCluster{nodes: tt.nodes}
			l := &lab{
				backend: &Backend{api: c.connect(t, "exit 1"), nodes: []*node{{name: "a"}, {name: "b"}}},
				nodes:   make([]*cluster.Node, 2),
			}
			got, err := l.schedulable(t.Context())
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.wantErr {
				t.Errorf("got %d, %q, want %d, %q", got, text, tt.want, tt.wantErr)
			}
		})
	}
}

// A run is interrupted while a node is drained.
func TestBackend_drained_after_the_end(t *testing.T) {
	c := &fakeCluster{nodes: []object{cordonedNode("worker")}}
	began := filepath.Join(t.TempDir(), "began")
	b := &Backend{api: c.connect(t, "touch "+began+"; exec sleep 1000"), nodes: []*node{{name: "worker"}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if _, err := os.Stat(began); err == nil {
				return
			}
		}
	}()
	err := b.drained(ctx, b.nodes[0], "c1")
	if want := "kubectl drain worker: context canceled"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if diff := cmp.Diff(fakeNode("worker"), c.nodes[0]); diff != "" {
		t.Errorf("the node (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"PATCH /api/v1/nodes/worker", "PATCH /api/v1/nodes/worker"}, c.changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestAPI_uncordon_wants_it(t *testing.T) {
	c := &fakeCluster{nodes: []object{cordonedNode("worker")}, stubborn: true}
	a := c.connect(t, "exit 1")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := a.uncordon(ctx, "worker")
	if text := fmt.Sprint(err); !strings.HasSuffix(text, "; kubectl uncordon worker") {
		t.Errorf("got %s, want that the node is still out of use", text)
	}
}
