package main

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/plugin/internal/chain"
)

// Each file in testdata has one mistake, unless its name says otherwise.
func TestParseConfig(t *testing.T) {
	const code = `7: `
	for name, want := range map[string]string{
		"default-route": code + `routes: "0.0.0.0/0" is the default route: leave routes out to send the default route over ` +
			`the node`,
		"host-bits": code + `routes: "10.96.0.1/12" has bits set beyond the prefix length: want "10.96.0.0/12"`,
		"kube-proxy-mark": code + `nodePortMark 0x4000: want one bit other than 0x4000 and 0x8000, which are ` +
			`kube-proxy's`,
		"long-name": code + `hostInterface "averylonginterface": interface name is too long; interface ` +
			`name should be less than 16 characters`,
		"no-json":           code + `configuration: unexpected end of JSON input`,
		"no-prefix":         code + `routes: "10.96.0.1" is not a prefix such as 10.96.0.0/12`,
		"overlapping-ports": code + `nodePorts "30000-32767,30080": "30080" overlaps with another range`,
		"reversed-ports": code + `nodePorts "32767-30000": "32767-30000" is neither a port nor a range such as ` +
			`30000-32767`,
		"small-mtu": code + `mtu 500: want 1280 to 65535, or leave it out to use the MTU of hostInterface`,
		"two-bits": code + `nodePortMark 0x3: want one bit other than 0x4000 and 0x8000, which are ` +
			`kube-proxy's`,
		"wrong-type": code + `configuration: json: cannot unmarshal number into Go struct field ` +
			`config.ipMasq of type bool`,
		"zero-table": code + `routeTableStart 0: want 1 to 2147483647`,
		"several-at-once": code + `mtu 500: want 1280 to 65535, or leave it out to use the MTU of hostInterface` +
			"\n" + `routeTableStart 0: want 1 to 2147483647`,
		"empty-pod-interface": code + `containerInterface "": interface name is empty`,
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = parseConfig(raw)
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

func TestParseConfig_values(t *testing.T) {
	raw, err := os.ReadFile("testdata/all-keys.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	masq, start, mark := false, 1000, uint32(0x100)
	want := &config{
		Config:        chain.Config{CNIVersion: "1.1.0", Name: "cni0", Type: pluginName},
		HostInterface: "eth9", ContainerInterface: "svc0", IPMasq: &masq, MTU: 9000, RouteTableStart: &start,
		NodePortMark: &mark,
		NodePorts:    "30000:32767, 8080", Routes: []string{"10.96.0.0/12", "fd00:96::/112"},
		routes: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:96::/112")},
		ports:  []portRange{{30000, 32767}, {8080, 8080}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{}), cmp.Comparer(func(a, b netip.Prefix) bool {
		return a == b
	})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	bare, err := parseConfig([]byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	if !bare.masquerades() || bare.mark() != 0x2000 || bare.tableStart() != 256 || bare.ContainerInterface != "veth0" {
		t.Errorf("got defaults %v %#x %d %q", bare.masquerades(), bare.mark(), bare.tableStart(),
			bare.ContainerInterface)
	}
}
