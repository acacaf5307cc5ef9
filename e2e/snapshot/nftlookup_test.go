package snapshot

import "testing"

func TestSpoken(t *testing.T) {
	for text, want := range map[string]string{
		"meta l4proto 6 th dport 53 drop":                                    "meta l4proto tcp th dport 53 drop",
		"meta l4proto 60 drop":                                               "meta l4proto 60 drop",
		"ct state & 0x1 != 0x0 drop":                                         "ct state invalid drop",
		"ct state & 0x9 != 0x0 drop":                                         "ct state & 0x9 != 0x0 drop",
		"byteorder #1=0x00000001 #5=0x00000004 meta key 0 > 0x00000578 drop": "meta length > 1400 drop",
		"quota 8388608 bytes #2=0x00000003 drop":                             "quota over 8388608 bytes drop",
		"ip daddr 10.0.0.1 drop":                                             "ip daddr 10.0.0.1 drop",
	} {
		t.Run(text, func(t *testing.T) {
			if got := spoken(text); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestNftRule_that_is_not_there(t *testing.T) {
	isolate(t)
	_, err := NftRule(2, "filter", "input", 7)
	const want = "no rule with handle 7 in chain ip filter input"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
