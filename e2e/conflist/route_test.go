package conflist

import "testing"

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
