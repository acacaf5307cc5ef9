package probe

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestJSON checks that values that cross a process border stay the same.
func TestJSON(t *testing.T) {
	for _, v := range []any{
		&Spec{
			Protocol: TCP, To: "fe80::1%eth0", Port: 1, From: "fe80::2", Bytes: 2, Size: 3, DontFragment: true,
			Count: 4, Interval: 5, Within: 6, Attempts: 7,
		},
		&Result{
			OK: true, Error: "e", Server: "s", PeerSeen: "p", ServerAddress: "a", Local: "l", Attempts: 1, Sent: 2,
			Received: 3, FirstReply: 4, Duration: 5, Worst: 6, Control: &Result{OK: true},
		},
		&ListenSpec{Protocol: UDP, Address: "::", Port: 1, Name: "n"},
		&FlowSpec{Protocol: UDP, To: "::1", Port: 1, From: "::1", Interval: 2},
		&FlowResult{Sent: 3, Received: 2, Lost: 1, LongestGap: 4, Error: "e", Worst: 5, Control: &FlowResult{Sent: 1}},
		&Match{Hosts: []string{"::1"}, Ports: []uint16{1}, Limit: 2},
		&Packet{
			Time: time.Unix(1, 2).UTC(), Interface: "eth0", Outgoing: true, SourceMAC: "s", DestinationMAC: "d",
			Source: "::1", Destination: "::2", Protocol: "TCP", Info: "i", Raw: []byte{1},
		},
		&NeighbourEntry{MAC: "m", State: "STALE"},
		&Advertisement{Prefix: "fd00::/64", RouterLifetime: 1},
	} {
		wantRoundTrip(t, v)
	}
}

func wantRoundTrip(t *testing.T, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	back := reflect.New(reflect.TypeOf(v).Elem()).Interface()
	if err := json.Unmarshal(b, back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(back, v); diff != "" {
		t.Errorf("%T: got - want +\n%s", v, diff)
	}
}
