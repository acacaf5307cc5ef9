package target

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/internal/strictyaml/yamltest"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// full uses every field once.
const full = `apiVersion: cnitest/v1alpha1
kind: Target
implementation:
  organization: Example Networks
  project: mynet
  url: https://example.org/mynet
  version: v1.2.3
  contact: cni@example.org
setup:
- [mkdir, -p, /run/ipamd]
daemon:
  name: ipamd
  command: [ipamd, --cooling, 1s]
  oldCommand: [ipamd]
  environment: {WARM_IP_TARGET: "2"}
  ready: {socket: /run/ipamd/ipamd.sock}
  within: 5s
  owns: [/run/ipamd, /var/lib/ipamd]
cloud:
  enis: 3
  addresses: 4
  prefixes: 1
  vpc: 10.1.0.0/20
  metadata: v1
  externalSNAT: true
  ipv6Prefix: true
`

func TestParse(t *testing.T) {
	got, err := Parse("dir/full.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := &Target{
		APIVersion: scenario.APIVersion, Kind: Kind, Source: []byte(full),
		Implementation: &report.Origin{
			Organization: "Example Networks", Project: "mynet", URL: "https://example.org/mynet", Version: "v1.2.3",
			Contact: "cni@example.org",
		},
		Setup: [][]string{{"mkdir", "-p", "/run/ipamd"}},
		Daemon: &Daemon{
			Name: "ipamd", Command: []string{"ipamd", "--cooling", "1s"}, OldCommand: []string{"ipamd"},
			Environment: map[string]string{"WARM_IP_TARGET": "2"},
			Ready:       Ready{Socket: "/run/ipamd/ipamd.sock"}, Within: scenario.Duration(5 * time.Second),
			Owns: []string{"/run/ipamd", "/var/lib/ipamd"},
		},
		Cloud: &Cloud{
			ENIs: 3, Addresses: 4, Prefixes: 1, IPv6Prefix: true, VPC: "10.1.0.0/20", Metadata: MetadataV1,
			ExternalSNAT: true,
		},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}

func TestTarget_defaults(t *testing.T) {
	got, err := Parse("least.yaml", []byte("apiVersion: cnitest/v1alpha1\nkind: Target\n"+
		"daemon: {name: d, command: [d], ready: {file: /run/d.ready}}\ncloud: {addresses: 1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Daemon.Time() != DefaultWithin || got.Cloud.Network().String() != defaultVPC || got.Cloud.Interfaces() != 1 {
		t.Errorf("got %s, %s, %d, want the defaults", got.Daemon.Time(), got.Cloud.Network(), got.Cloud.Interfaces())
	}
}

func TestParse_definitions(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name),
			[]byte("kind: CustomResourceDefinition\nmetadata: {name: x.y}\n"),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Parse(filepath.Join(dir, "x.target.yaml"), []byte("apiVersion: cnitest/v1alpha1\nkind: Target\n"+
		"kubernetes: {crds: [\"*.yaml\"], kubeconfig: /etc/kubeconfig}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Kubernetes{
		CRDs: []string{filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")}, Kubeconfig: "/etc/kubeconfig",
	}
	if diff := cmp.Diff(want, got.Kubernetes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParse_mistakes(t *testing.T) { yamltest.Mistakes(t, Parse) }

func TestLoad_not_there(t *testing.T) {
	_, err := Load("testdata/none.yaml")
	if want := "open testdata/none.yaml: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
