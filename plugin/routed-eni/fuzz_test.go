package main

import "testing"

// FuzzParseConfig checks that every input of a runtime gives a configuration or an error.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"cniVersion": "1.1.0", "name": "net", "type": "x", "master": "eno1", "bridge": "eno1.host",
		"hostInterface": "eno1", "prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mac": "0"}],
		"ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 7}]},
		"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}`))
	f.Add([]byte(`{"prevResult": {"interfaces": [null], "ips": [null], "routes": [null]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := parseConfig(data); (got == nil) == (err == nil) {
			t.Errorf("got %v, %v, want one of the two", got, err)
		}
	})
}
