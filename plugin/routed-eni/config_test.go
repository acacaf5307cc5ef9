package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/plugin/internal/chain"
)

// Each file in testdata has one mistake, or none if its name says so.
func TestParseConfig(t *testing.T) {
	for name, want := range map[string]string{
		"empty-prefix":    `7: vethPrefix "": interface name is empty`,
		"fraction-mtu":    `7: mtu 1500.5: want 1280 to 65535, or leave it out to have that of the ENI`,
		"ipam":            `7: ipam "host-local": addresses come from ipamd: leave ipam out`,
		"long-prefix":     `7: vethPrefix "amazon": want at most 4 bytes, got 6`,
		"mtu-of-words":    `7: configuration: json: invalid number literal, trying to unmarshal "\"large\"" into Number`,
		"no-json":         `7: configuration: unexpected end of JSON input`,
		"no-name":         `7: vethPrefix "a/b": interface name contains / or : or whitespace characters`,
		"relative-socket": `7: socket "ipamd.sock": want an absolute path, as ipamd's --socket`,
		"several-at-once": `7: mtu 1: want 1280 to 65535, or leave it out to have that of the ENI` + "\n" +
			`socket "": want an absolute path, as ipamd's --socket`,
		"small-mtu":  `7: mtu 500: want 1280 to 65535, or leave it out to have that of the ENI`,
		"wrong-type": `7: configuration: json: cannot unmarshal number into Go struct field config.vethPrefix of type string`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseConfig(read(t, filepath.Join("testdata", name+".json")))
			var got *types.Error
			if !errors.As(err, &got) {
				t.Fatalf("got %v, want a CNI error", err)
			}
			if diff := cmp.Diff(want, (&cniError{Code: got.Code, Msg: got.Msg}).String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Keys that only amazon's plugin has are ignored, and the MTU may be written as in its configuration.
func TestParseConfig_values(t *testing.T) {
	got, err := parseConfig(read(t, "testdata/all-keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := &config{
		Config:     chain.Config{CNIVersion: "1.1.0", Name: "net", Type: pluginName},
		VethPrefix: "pod", MTU: "9001", Socket: "/run/x/ipamd.sock", DNS: types.DNS{Nameservers: []string{"10.0.0.2"}},
		mtu: 9001,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The defaults equal the values in the conflist.
func TestParseConfig_conflist(t *testing.T) {
	var list struct{ Plugins []json.RawMessage }
	if err := json.Unmarshal(read(t, "net.d/10-routed-eni.conflist"), &list); err != nil || len(list.Plugins) != 1 {
		t.Fatalf("got %d plugins, %v, want 1", len(list.Plugins), err)
	}
	got, err := parseConfig(list.Plugins[0])
	if err != nil {
		t.Fatal(err)
	}
	want, err := parseConfig([]byte(`{"type":"routed-eni"}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
