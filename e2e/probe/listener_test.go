package probe

import (
	"strings"
	"testing"
)

func TestListen_bad(t *testing.T) {
	for _, tt := range []struct {
		name    string
		netns   string
		spec    ListenSpec
		wantErr string
	}{
		{"protocol", "", ListenSpec{Protocol: ICMP, Port: 1}, `listener: want protocol tcp or udp, got "icmp"`},
		{"port", "", ListenSpec{Protocol: TCP}, "listener: want a port, got 0"},
		{"address", "", ListenSpec{Protocol: TCP, Port: 1, Address: "eth0"}, `listener: address "eth0" is not an IP address`},
		{"name", "", ListenSpec{Protocol: TCP, Port: 1, Name: strings.Repeat("n", 201)}, "listener: want a name of at most 200 bytes, got 201"},
		{"namespace", "/nowhere", ListenSpec{Protocol: TCP, Port: 1}, `network namespace "/nowhere": no such file or directory`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Listen(tt.netns, tt.spec)
			if got := errText(err); got != tt.wantErr {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
		})
	}
}

func TestListen_inUse(t *testing.T) {
	lan := newLAN(t, 1)
	h := lan.hosts[0]
	for protocol, wantErr := range map[Protocol]string{
		TCP: "listen on tcp 10.9.0.1:8080: bind: address already in use",
		UDP: "listen on udp 10.9.0.1:8080: bind: address already in use",
	} {
		t.Run(string(protocol), func(t *testing.T) {
			first := listen(t, h, ListenSpec{Protocol: protocol, Port: 8080})
			spec := ListenSpec{Protocol: protocol, Address: "10.9.0.1", Port: 8080, Name: "second"}
			_, err := Listen(h.path, spec)
			if got := errText(err); got != wantErr {
				t.Errorf("got error %q, want %q", got, wantErr)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			listen(t, h, spec)
			if got := ask(t, h, Spec{Protocol: protocol, To: "10.9.0.1", Port: 8080}); got.Server != "second" {
				t.Errorf("got %+v, want an answer by second", got)
			}
		})
	}
}

// TestListener_Close checks that connections end with their server.
func TestListener_Close(t *testing.T) {
	lan := newLAN(t, 2)
	l := listen(t, lan.hosts[1], ListenSpec{Protocol: TCP, Port: 8080})
	var flows []*Flow
	for range 20 {
		flows = append(flows, startFlow(t, lan.hosts[0], FlowSpec{Protocol: TCP, To: "10.9.0.2", Port: 8080}))
	}
	for _, f := range flows {
		f.received(t, 1)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range flows {
		<-f.receiver
		if got := f.Stop(); got.Error == "" {
			t.Errorf("flow %d: got %+v, want an error", i, got)
		}
	}
}
