package kind

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

func TestWatch_late(t *testing.T) {
	var nodes nodeList
	if err := json.Unmarshal([]byte(`{"items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}`), &nodes); err != nil {
		t.Fatal(err)
	}
	w := &watch{renewed: map[string]renewal{}}
	start := time.Now()
	// Node a renews its lease, by a clock that is years off; b stops after 10 s.
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
