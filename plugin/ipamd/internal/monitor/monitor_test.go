package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/state"
)

func newStore(t *testing.T) *datastore.Store {
	t.Helper()
	at := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	s := datastore.New(datastore.Options{Cooling: time.Minute, Now: func() time.Time { return at }})
	s.Sync([]datastore.ENI{
		{ID: "eni-0", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}},
		{ID: "eni-1", Device: 1, Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.1")}},
	})
	for _, container := range []string{"a", "b"} {
		if _, _, err := s.Assign(datastore.Key{Network: "net", ContainerID: container, IfName: "eth0"},
			datastore.Pod{Namespace: "ns", Name: container}); err != nil {
			t.Fatal(err)
		}
	}
	s.Release(datastore.Key{Network: "net", ContainerID: "b", IfName: "eth0"})
	return s
}

func TestHandler(t *testing.T) {
	store := newStore(t)
	server := httptest.NewServer(Handler(store, NewMetrics(store), func() Status {
		return Status{
			InstanceID: "i-1", VPC: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")},
			Warnings: []string{"w"}, Unusable: []UnusableENI{{"eni-9", "no link"}},
			Unmanaged: []UnmanagedENI{
				{ID: "eni-1", Device: 1, Reason: "tagged"}, {ID: "eni-8", Card: 1, Device: 2, Reason: "card"},
			},
			Reconciled: &ReconcileStatus{At: "2024-01-02T03:04:05Z"},
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{
		"/v1/status": `{"instanceID":"i-1","vpc":["10.0.0.0/16"],"addresses":{"total":3,"free":1,"assigned":1,"cooling":1,"removed":0},` +
			`"unusable":[{"id":"eni-9","reason":"no link"}],"unmanaged":[{"id":"eni-1","networkCard":0,"deviceNumber":1,"reason":"tagged"},` +
			`{"id":"eni-8","networkCard":1,"deviceNumber":2,"reason":"card"}],"warnings":["w"],"reconciled":{"at":"2024-01-02T03:04:05Z"}}`,
		"/v1/enis": `[{"id":"eni-0","deviceNumber":0,"free":1,"assigned":1,"cooling":0,"removed":false,"unused":["10.0.0.2"],"networkCard":0},` +
			`{"id":"eni-1","deviceNumber":1,"free":0,"assigned":0,"cooling":1,"removed":false,"unused":null,"networkCard":0,"unmanaged":"tagged"},` +
			`{"id":"eni-8","deviceNumber":2,"free":0,"assigned":0,"cooling":0,"removed":false,"unused":null,"networkCard":1,"unmanaged":"card"}]`,
		"/v1/assignments": `[{"network":"net","containerID":"a","ifName":"eth0","namespace":"ns","name":"a","address":"10.0.0.1","eni":"eni-0",` +
			`"deviceNumber":0,"since":"2024-01-02T03:04:05Z","removed":false}]`,
	} {
		got, code := get(t, server.URL+path)
		if got = strings.NewReplacer("\n", "", "  ", "", ": ", ":").Replace(got); got != want || code != http.StatusOK {
			t.Errorf("%s: got  %d %s\nwant %s", path, code, got, want)
		}
	}
	if _, code := get(t, server.URL+"/v1/other"); code != http.StatusNotFound {
		t.Errorf("got %d, want %d", code, http.StatusNotFound)
	}
	if got, _ := get(t, server.URL+"/"); !strings.Contains(got, "/v1/assignments") {
		t.Errorf("got %q, want what there is", got)
	}
	if got, _ := get(t, server.URL+"/metrics"); !strings.Contains(got,
		`ipamd_addresses{device="0",eni="eni-0",state="assigned"} 1`) {
		t.Errorf("got %s", got)
	}
}

func get(t *testing.T, url string) (string, int) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw), response.StatusCode
}

func TestMetrics(t *testing.T) {
	m := NewMetrics(newStore(t))
	call := func(err error) {
		_, _ = m.Intercept(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/rpc.CNIBackend/AddNetwork"},
			func(context.Context, any) (any, error) {
				return nil, err
			})
	}
	call(nil)
	call(status.Error(codes.ResourceExhausted, "none"))
	m.Wrote(state.Write{Duration: time.Millisecond, Callers: 5})
	m.Wrote(state.Write{Callers: 1, Err: errors.New("full")})
	m.Reconciled(nil)
	m.Reconciled(errors.New("no"))
	m.Refused(1000)
	server := httptest.NewServer(Handler(nil, m, nil))
	defer server.Close()
	text, _ := get(t, server.URL+"/metrics")
	var got []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "ipamd_") && !strings.Contains(line, "_bucket{") && !strings.Contains(line, "_sum") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		`ipamd_addresses{device="0",eni="eni-0",state="assigned"} 1`,
		`ipamd_addresses{device="0",eni="eni-0",state="cooling"} 0`,
		`ipamd_addresses{device="0",eni="eni-0",state="free"} 1`,
		`ipamd_addresses{device="1",eni="eni-1",state="assigned"} 0`,
		`ipamd_addresses{device="1",eni="eni-1",state="cooling"} 1`,
		`ipamd_addresses{device="1",eni="eni-1",state="free"} 0`,
		`ipamd_reconciles_total{result="error"} 1`,
		`ipamd_reconciles_total{result="success"} 1`,
		`ipamd_refused_connections_total 1`,
		`ipamd_removed_addresses 0`,
		`ipamd_request_duration_seconds_count{method="AddNetwork"} 2`,
		`ipamd_requests_total{code="OK",method="AddNetwork"} 1`,
		`ipamd_requests_total{code="ResourceExhausted",method="AddNetwork"} 1`,
		`ipamd_state_write_callers_count 2`,
		`ipamd_state_write_duration_seconds_count{result="error"} 1`,
		`ipamd_state_write_duration_seconds_count{result="success"} 1`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestListen(t *testing.T) {
	for _, where := range []string{filepath.Join(t.TempDir(), "s"), "127.0.0.1:0", "[::1]:0"} {
		listener, err := Listen(where)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		listener.Close()
	}
	for _, where := range []string{"", ":8080", "0.0.0.0:8080", "10.0.0.1:1", "localhost:1", "s"} {
		_, err := Listen(where)
		want := fmt.Sprintf("introspection: want the path of a socket or a loopback address with a port, got %q", where)
		if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
