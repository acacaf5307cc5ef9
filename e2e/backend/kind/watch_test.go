package kind

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestWatch_judge(t *testing.T) {
	start := time.Now()
	at := func(second int) time.Time { return start.Add(time.Duration(second) * time.Second) }
	var nodes nodeList
	if err := json.Unmarshal([]byte(`{"items": [{"metadata": {"name": "a"}}]}`), &nodes); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("no route to host")
	w := &watch{renewed: map[string]renewal{}}
	for _, tt := range []struct {
		what   string
		second int
		sight  sight
		want   error
	}{
		{"one answer that is none", 0, sight{err: gone}, nil},
		{"an answer again", 3, sight{nodes: nodes}, nil},
		{"the next answer that is none", 6, sight{err: gone}, nil},
		{"none for a while", 12, sight{err: gone}, gone},
		{"one that waited for all of that", 13, sight{nodes: nodes}, nil},
		{"none in time", 60, sight{err: gone, took: 40 * time.Second}, gone},
		{"a late answer, which kept kubelets waiting, too", 70, sight{nodes: nodes, took: 8 * time.Second}, nil},
		{"a lease that is not renewed from then on", 100, sight{nodes: nodes}, errors.New("node a has not renewed its lease for 30s")},
	} {
		if got := w.judge(tt.sight, at(tt.second)); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: got %v, want %v", tt.what, got, tt.want)
		}
	}
}

func TestWatch_late(t *testing.T) {
	var nodes nodeList
	if err := json.Unmarshal([]byte(`{"items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}`),
		&nodes); err != nil {
		t.Fatal(err)
	}
	w := &watch{renewed: map[string]renewal{}}
	start := time.Now()
	// Node a renews its lease by a clock that is years off; b stops after 10 s.
	for _, tt := range []struct {
		second int
		want   string
	}{
		{0, "<nil>"},
		{10, "<nil>"},
		{20, "<nil>"},
		{35, "<nil>"},
		{41, "node b has not renewed its lease for 31s"},
	} {
		var leases leaseList
		text := fmt.Sprintf(`{"items": [{"metadata": {"name": "a"}, "spec": {"renewTime": "1999-01-01T00:00:%02d.000000Z"}},
			{"metadata": {"name": "b"}, "spec": {"renewTime": "2026-01-01T00:00:%02d.000000Z"}}]}`, tt.second, min(tt.second, 10))
		if err := json.Unmarshal([]byte(text), &leases); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(w.late(nodes, leases, start.Add(time.Duration(tt.second)*time.Second))); got != tt.want {
			t.Errorf("after %ds got %s, want %s", tt.second, got, tt.want)
		}
	}
	if got, want := fmt.Sprint(w.late(nodes, leaseList{}, start.Add(time.Hour))), "<nil>"; got != want {
		t.Errorf("without leases got %s, want %s at first", got, want)
	}
	got := fmt.Sprint(w.late(nodes, leaseList{}, start.Add(time.Hour+time.Minute)))
	if want := "node a has not renewed its lease for 1m0s\nnode b has not renewed its lease for 1m0s"; got != want {
		t.Errorf("without leases got %s, want %s", got, want)
	}
}
