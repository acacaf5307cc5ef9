package service

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestRefused applies each file in testdata/bad. None of them changes the kernel.
func TestRefused(t *testing.T) {
	want := map[string]string{
		"name":              `services: "Web -j ACCEPT": name: want NAMESPACE/NAME:PORT of lower-case letters, digits, dots and hyphens`,
		"no-name":           `services: "": name: want NAMESPACE/NAME:PORT of lower-case letters, digits, dots and hyphens`,
		"protocol":          `services: "web": protocol: want "tcp" or "udp", got "TCP"`,
		"port":              `services: "web": port: want 1 to 65535, got 0`,
		"no-cluster-ip":     `services: "web": cluster IPs: want one for each family, got none`,
		"cluster-ip":        `services: "web": cluster IP: want a unicast address, got "::ffff:10.96.0.1"`,
		"two-of-a-family":   `services: "web": cluster IPs: want one for each family, got 10.96.0.1 and 10.96.0.2`,
		"node-port-address": `services: node port address: want an address that is not loopback, got "127.0.0.1"`,
		"dataplane":         `services: dataplane: want "nftables", "iptables" or "ipvs", got "userspace"`,
		"endpoint": `services: "web": endpoint: want a unicast address and a port, got "10.2.1.2" and 0
"web": endpoint: want a unicast address and a port, got "invalid IP" and 80`,
		"taken": `services: "web": name web, protocol tcp is taken by "web"
"web": tcp port 80 of 10.96.0.1 is taken by "web"
"other": tcp node port 30000 of IPv4 is taken by "web"`,
	}
	files, err := filepath.Glob("testdata/bad/*.json")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var in struct {
			Options  Options
			Services []Service
		}
		if err := json.Unmarshal(text, &in); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		name := filepath.Base(file[:len(file)-len(".json")])
		if err := Apply(t.Context(), in.Options, in.Services); err != nil {
			got[name] = err.Error()
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("errors by file (-got +want):\n%s", diff)
	}
}

func TestJSON(t *testing.T) {
	want := labServices()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got []Service
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("after a round trip (-got +want):\n%s", diff)
	}
}
