package main

import "testing"

func TestDefaultChildName(t *testing.T) {
	for master, want := range map[string]string{
		"eno1":            "eno1.host",
		"bond0.100":       "bond0.100.host",
		"enp0s31f60":      "enp0s31f60.host", // 15 bytes
		"enp129s0f0np0":   "enp125c0f6.host",
		"enp129s0f0np1":   "enp1238a02.host",
		"ééééééé":         "éé9fe8f.host", // the name is not cut within a letter, since JSON could not hold that
		"fifteen-bytes-x": "fifte8f9d4.host",
	} {
		if got := defaultChildName(master); got != want {
			t.Errorf("%s: got %s, want %s", master, got, want)
		}
	}
}
