package kind

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/kubeapi"
)

func TestParseProxyState(t *testing.T) {
	for _, tt := range []struct {
		name, metrics string
		want          proxyState
		wantErr       string
	}{
		{
			name: "one family",
			metrics: "# HELP x\nkubeproxy_sync_proxy_rules_last_queued_timestamp_seconds 1.79534600e+09\n" +
				"kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.79534601e+09\nother 3\n",
			want: proxyState{queued: 1795346000, written: true},
		},
		{
			name: "two families, of which one is behind",
			metrics: "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 5\n" +
				"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"} 7\n" +
				"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 4\n" +
				"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv6\"} 8\n",
			want: proxyState{queued: 7},
		},
		{name: "another program's", metrics: "x 1\n", wantErr: "http://localhost:10249/metrics: no time of a change"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseProxyState(tt.metrics)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.wantErr {
				t.Errorf("got %v, %q, want %v, %q", got, text, tt.want, tt.wantErr)
			}
		})
	}
}

func TestUntil(t *testing.T) {
	count := 0
	err := until(t.Context(), time.Minute, "three", func() (bool, error) {
		count++
		return count == 3, nil
	})
	if err != nil || count != 3 {
		t.Errorf("got %v after %d, want success after 3", err, count)
	}
	err = until(t.Context(), time.Millisecond, "pod web to run", func() (bool, error) { return false, nil })
	if want := "pod web to run: not within 1ms"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	broken := errors.New("broken")
	count = 0
	err = until(t.Context(), time.Minute, "x", func() (bool, error) {
		if count++; count == 1 {
			return false, &kubeapi.Refusal{Method: "GET", Path: "/x", Status: 502, Message: "bad gateway"}
		}
		return true, nil
	})
	if err != nil || count != 2 {
		t.Errorf("after an answer of 502 got %v after %d, want success after 2", err, count)
	}
	err = until(t.Context(), time.Millisecond, "pod web to run", func() (bool, error) { return false, broken })
	if want := "pod web to run: not within 1ms: broken"; err == nil || err.Error() != want || !errors.Is(err, broken) {
		t.Errorf("got %v, want %s", err, want)
	}
	forbidden := &kubeapi.Refusal{Method: "GET", Path: "/x", Status: 403, Message: "forbidden"}
	if err := until(t.Context(), time.Minute, "x", func() (bool, error) {
		return false, forbidden
	}); !errors.Is(err, forbidden) {
		t.Errorf("got %v, want %v", err, forbidden)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if err := until(ended, time.Minute, "x", func() (bool, error) { return false, nil }); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

// Each of a service's families has a slice of its own, which is made when it first has an endpoint, and written only if
// it changes.
func TestLab_SetEndpoints(t *testing.T) {
	c := &fakeCluster{}
	l := &lab{
		backend: &Backend{api: c.connect(t, "")},
		services: map[string]*liveService{
			"web": {object: "c1-web", slices: map[string]string{"IPv4": "", "IPv6": ""}},
			"old": {object: "c1-old", slices: map[string]string{"IPv4": ""}},
		},
	}
	endpoints := func(texts ...string) (list []cluster.Endpoint) {
		for _, text := range texts {
			list = append(list, cluster.Endpoint{Address: netip.MustParseAddr(text)})
		}
		return list
	}
	const v4, v6 = "/c1-web-ipv4", "/c1-web-ipv6"
	for _, tt := range []struct {
		name, service string
		endpoints     []cluster.Endpoint
		want          []string
	}{
		{name: "none yet", service: "web"},
		{"IPv4", "web", endpoints("192.0.2.1"), []string{"POST " + slicesPath()}},
		{"both", "web", endpoints("192.0.2.1", "2001:db8::1"), []string{"POST " + slicesPath()}},
		{"another of IPv6", "web", endpoints("192.0.2.1", "2001:db8::2"), []string{"PUT " + slicesPath() + v6}},
		{"none", "web", nil, []string{"PUT " + slicesPath() + v4, "PUT " + slicesPath() + v6}},
		{name: "a family that the service does not have", service: "old", endpoints: endpoints("2001:db8::1")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.changes = nil
			if err := l.SetEndpoints(t.Context(), tt.service, tt.endpoints); err != nil {
				t.Error(err)
			}
			if !slices.Equal(c.changes, tt.want) {
				t.Errorf("got %q, want %q", c.changes, tt.want)
			}
		})
	}
	if err := l.SetEndpoints(t.Context(), "other", nil); err == nil || err.Error() != "service/other: it was not made" {
		t.Errorf("got %v, want that it was not made", err)
	}
}
