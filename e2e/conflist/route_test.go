package conflist

import (
	"net/netip"
	"testing"
)

// Each cure can be written in the place of the mistake.
func TestLengthCure(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.0.0":             "add the length of its network, such as 10.1.0.0/24",
		"fd00::":               "add the length of its network, such as fd00::/64",
		"10.1.0.0/255.255.0.0": "write 10.1.0.0/16",
		" 10.1.0.0/24 ":        "write 10.1.0.0/24, without blanks",
		"10.1.0.0/255.0.255.0": "write a length from 0 to 32 after the /",
		"10.1.0.0/33":          "write a length from 0 to 32 after the /",
		"fd00::/":              "write a length from 0 to 128 after the /",
		"net":                  "write one such as 10.9.0.0/16",
	} {
		if got := lengthCure(text, "10.9.0.0/16"); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestCheckRoute_default(t *testing.T) {
	_, err := Parse("n.conf", []byte(`{"cniVersion": "1.0.0", "name": "n", "type": "macvlan", "ipam": {
		"type": "host-local", "subnet": "10.4.0.0/24", "routes": [{"dst": "default"}]}}`))
	const want = `n.conf:2: dst "default" is a word of the ip command; write "0.0.0.0/0", or "::/0" for IPv6`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestStays checks which files give pods no route out of their own network.
func TestStays(t *testing.T) {
	const ipam = `"ipam": {"type": "host-local", "subnet": "10.4.0.0/24"`
	for _, tt := range []struct {
		name, plugins   string
		lan             string // that the user gives
		onLAN, behind   bool
		answersItsNodes bool
	}{
		{name: "macvlan", plugins: `{"type": "macvlan", ` + ipam + `}}`, onLAN: true},
		{name: "ptp", plugins: `{"type": "ptp", ` + ipam + `}}`, behind: true, answersItsNodes: true},
		{name: "bridge", plugins: `{"type": "bridge", ` + ipam + `}}`, behind: true},
		{name: "gateway", plugins: `{"type": "bridge", "isGateway": true, ` + ipam + `}}`, behind: true, answersItsNodes: true},
		{name: "default gateway", plugins: `{"type": "bridge", "isDefaultGateway": true, ` + ipam + `}}`, answersItsNodes: true},
		{name: "default route", plugins: `{"type": "ptp", ` + ipam + `, "routes": [{"dst": "0.0.0.0/0"}]}}`, answersItsNodes: true},
		{name: "halves of one", plugins: `{"type": "ptp", ` + ipam + `, "routes": [{"dst": "::/1"}]}}`, answersItsNodes: true},
		{
			name: "a route elsewhere", plugins: `{"type": "ptp", ` + ipam + `, "routes": [{"dst": "10.8.0.0/16"}]}}`,
			lan: "10.9.0.0/16", behind: true, answersItsNodes: true,
		},
		{
			name: "a route to the nodes", plugins: `{"type": "ptp", ` + ipam + `, "routes": [{"dst": "10.8.0.0/15"}]}}`,
			lan: "10.9.0.0/16", answersItsNodes: true,
		},
		{name: "routes of a daemon", plugins: `{"type": "ptp", "ipam": {"type": "dhcp"}}`, answersItsNodes: true},
		{
			name: "a plugin that may add some", answersItsNodes: true,
			plugins: `{"type": "ptp", ` + ipam + `}}, {"type": "mine"}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("n.conflist", []byte(`{"cniVersion": "1.0.0", "name": "n", "plugins": [`+tt.plugins+`]}`))
			if err != nil {
				t.Fatal(err)
			}
			var lans []netip.Prefix
			if tt.lan != "" {
				lans = append(lans, netip.MustParsePrefix(tt.lan))
			}
			if got := f.StaysOnLAN(); got != tt.onLAN {
				t.Errorf("StaysOnLAN: got %t", got)
			}
			if got := f.StaysBehindNode(lans); got != tt.behind {
				t.Errorf("StaysBehindNode: got %t", got)
			}
			if got := f.AnswersNode(); got != tt.answersItsNodes {
				t.Errorf("AnswersNode: got %t", got)
			}
		})
	}
}
