package kind

import (
	"context"
	"errors"
	"testing"
	"time"

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
			want: proxyState{queued: 1795346000, written: 1795346010},
		},
		{
			name: "two families, of which the later one counts",
			metrics: "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 5\n" +
				"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"} 7\n" +
				"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 6\n",
			want: proxyState{queued: 7, written: 6},
		},
		{name: "another program's", metrics: "x 1\n", wantErr: "http://127.0.0.1:10249/metrics: no time of a change"},
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
