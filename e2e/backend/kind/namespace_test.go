package kind

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const inUse = "another run uses the cluster (its namespace cnitest is renewed); want it to end first"

func TestOpen_refuses(t *testing.T) {
	renewing := &fakeCluster{namespace: fakeNamespace(ownLabels()), nodes: []object{fakeNode("worker")}}
	asked := 0
	renewing.before = func(string) {
		asked++
		renewing.namespace["metadata"].(object)["annotations"] = object{renewedAnnotation: fmt.Sprint(asked)}
	}
	for _, tt := range []struct {
		name    string
		cluster *fakeCluster
		image   string
		wantErr string
	}{
		{
			name: "somebody's namespace", image: "registry.example.com/cnitest:1",
			cluster: &fakeCluster{namespace: fakeNamespace(nil), nodes: []object{fakeNode("worker")}},
			wantErr: "the cluster has a namespace cnitest that this program did not make (want the label " +
				"app.kubernetes.io/managed-by=cnitest); " +
				"if nothing in it is needed: kubectl delete namespace cnitest",
		},
		{name: "another run", image: "registry.example.com/cnitest:1", cluster: renewing, wantErr: inUse},
		{
			name:    "no image",
			cluster: &fakeCluster{namespace: fakeNamespace(ownLabels()), nodes: []object{fakeNode("worker")}},
			wantErr: "the nodes are not containers of kind: want --image, an image of this program (FROM scratch, /cnitest) that they can pull",
		},
		{name: "no nodes", cluster: &fakeCluster{namespace: fakeNamespace(ownLabels())}, wantErr: "the cluster has no nodes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cluster.serve(t, "exit 1")
			_, err := Open(t.Context(), Options{Binary: staticProgram(t), Image: tt.image})
			if err == nil || err.Error() != tt.wantErr {
				t.Errorf("got %v, want %s", err, tt.wantErr)
			}
			if len(tt.cluster.changes) > 0 || tt.cluster.namespace == nil {
				t.Errorf("got %v, want a cluster that stays as it is", tt.cluster.changes)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	c := &fakeCluster{nodes: []object{fakeNode("worker"), fakeNode("drained")}}
	merge(c.nodes[1], object{
		"metadata": object{"annotations": object{drainedAnnotation: "then"}}, "spec": object{"unschedulable": true},
	})
	c.serve(t, "exit 1")
	b, err := Open(t.Context(), Options{Binary: staticProgram(t), Image: "registry.example.com/cnitest:1"})
	if err != nil {
		t.Fatal(err)
	}
	// The watch saw a problem, and no scenario asked for it.
	b.watch.note(errors.New("node worker is not ready"))
	for _, want := range []string{"after the last scenario: node worker is not ready", "<nil>"} {
		if err := b.Close(); fmt.Sprint(err) != want {
			t.Errorf("close: got %v, want %s", err, want)
		}
	}
	want := []string{
		"POST /api/v1/namespaces", "PATCH /api/v1/nodes/drained", "POST /apis/apps/v1/namespaces/cnitest/daemonsets",
		"DELETE /api/v1/namespaces/cnitest",
	}
	if diff := cmp.Diff(want, c.changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(fakeNode("drained"), c.nodes[1]); diff != "" {
		t.Errorf("the node that was drained (-want +got):\n%s", diff)
	}
}

func TestClaim(t *testing.T) {
	c := &fakeCluster{namespace: fakeNamespace(ownLabels())}
	a := c.connect(t, "exit 1")
	first, err := a.claimNamespace(t.Context(), func(string) {}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.namespace["metadata"].(object)["uid"]; got != "made-1" {
		t.Errorf("got namespace %v, want a new one in place of the one that was left", got)
	}
	// Another run assumes that the first one has ended.
	second, err := a.claimNamespace(t.Context(), func(string) {}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.release(t.Context()); err != nil {
		t.Errorf("release: %v", err)
	}
	if c.namespace == nil {
		t.Error("the second run's namespace is gone, want that the first leaves it")
	}
	if err := second.release(t.Context()); err != nil || c.namespace != nil {
		t.Errorf("got %v, %v, want no namespace", err, c.namespace)
	}
}

func TestClaim_at_the_same_time(t *testing.T) {
	c := &fakeCluster{}
	// Somebody makes it after the check.
	c.before = func(method string) {
		if method == http.MethodPost {
			c.namespace = fakeNamespace(ownLabels())
		}
	}
	a := c.connect(t, "exit 1")
	_, err := a.claimNamespace(t.Context(), func(string) {}, time.Minute)
	if err == nil || err.Error() != inUse {
		t.Errorf("got %v, want %s", err, inUse)
	}
}

func TestNamespaceState_remains(t *testing.T) {
	var n namespaceState
	n.Status.Conditions = []condition{
		{Type: "NamespaceDeletionDiscoveryFailure", Status: "False", Message: "All resources successfully discovered"},
		{
			Type: "NamespaceFinalizersRemaining", Status: "True",
			Message: "Some content in the namespace has finalizers remaining: x.example.com in 1 resource instances",
		},
	}
	if want := n.Status.Conditions[1].Message; fmt.Sprint(n.remains()) != want {
		t.Errorf("got %v, want %s", n.remains(), want)
	}
}
