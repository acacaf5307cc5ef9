package probe_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/probe"
)

const loadPort = 5201

func TestLoad(t *testing.T) {
	server, err := probe.ServeLoad("", loadPort)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"127.0.0.1", "::1"} {
		for _, kind := range []probe.LoadKind{probe.Stream, probe.Exchanges, probe.Connections, probe.Packets} {
			t.Run(string(kind)+" to "+to, func(t *testing.T) {
				spec := probe.LoadSpec{Kind: kind, To: to, Port: loadPort, For: 50 * time.Millisecond}
				got, err := probe.Load(t.Context(), "", spec)
				if err != nil {
					if to == "::1" && strings.Contains(err.Error(), "assign requested address") {
						t.Skip("no IPv6 on lo")
					}
					t.Fatal(err)
				}
				timed := kind == probe.Exchanges || kind == probe.Connections
				if got.Rate <= 0 || timed != (got.P99 > 0) || got.Lost < 0 || got.Lost > 1 {
					t.Errorf("got %+v", got)
				}
				if kind != probe.Packets && got.Lost != 0 {
					t.Errorf("got a loss of %g, want none", got.Lost)
				}
			})
		}
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	for _, kind := range []probe.LoadKind{probe.Stream, probe.Packets} {
		spec := probe.LoadSpec{Kind: kind, To: "127.0.0.1", Port: loadPort}
		if _, err := probe.Load(t.Context(), "", spec); err == nil {
			t.Errorf("%s without a server: got no error", kind)
		}
	}
}

func TestLoad_refuses(t *testing.T) {
	for want, spec := range map[string]probe.LoadSpec{
		`load: address "pod" is not an IP address`:                              {Kind: probe.Stream, To: "pod"},
		`load: want kind stream, exchanges, connections or packets, got "fast"`: {Kind: "fast", To: "127.0.0.1"},
	} {
		if _, err := probe.Load(t.Context(), "", spec); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
