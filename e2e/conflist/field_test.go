package conflist

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestField reads the files that people posted, in testdata/field, and two more of each kind, in
// testdata/field-more.txtar: it compares the mistakes of each file, or its network, the warnings, and the plan for two
// nodes.
func TestField(t *testing.T) {
	files := map[string][]byte{}
	entries, err := os.ReadDir("testdata/field")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join("testdata/field", entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = data
	}
	more, err := txtar.ParseFile("testdata/field-more.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range more.Files {
		files[f.Name] = f.Data
	}
	for name, data := range files {
		t.Run(name, func(t *testing.T) {
			want, ok := fieldWant[name]
			if got := told(name, data); !ok || cmp.Diff(got, want) != "" {
				t.Errorf("-got +want:\n%s\ngot:\n%s", cmp.Diff(got, want), got)
			}
		})
	}
	for name := range fieldWant {
		if files[name] == nil {
			t.Errorf("%s: no such file", name)
		}
	}
}

// told returns the messages about a file: its mistakes, or for each network its name, the warnings, and the lab.
func told(name string, data []byte) string {
	all, err := parseAll(name, data, nil)
	if err != nil {
		return "\n" + err.Error() + "\n"
	}
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "\n%s %s %s: %s\n", f.Definition, f.Network, f.CNIVersion, strings.Join(f.Types(), ", "))
		for _, w := range f.Warnings {
			fmt.Fprintln(&b, "warning: "+w)
		}
		plan, err := f.Plan(PlanOptions{Nodes: nodes("a", "b")})
		if err != nil {
			fmt.Fprintln(&b, err)
			continue
		}
		fmt.Fprintf(&b, "%s on %s, router %s\n", plan.Uplink, join(plan.LAN), join(plan.Router))
		for _, note := range plan.Notes {
			fmt.Fprintln(&b, note)
		}
	}
	return b.String()
}

// TestLoadAll_by_name finds the network of a definition without spec.config in the files beside it.
func TestLoadAll_by_name(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const definitionText = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {name: lan}\n"
	write("lan.yaml", definitionText)
	path := filepath.Join(dir, "lan.yaml")
	_, err := LoadAll(path)
	want := fmt.Sprintf(`%s:1: lan has no spec.config, and no .conflist or .conf in %s or /etc/cni/net.d has "name": `+
		`"lan"; add spec.config, or put that file beside this one`, path, dir)
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	write("10-broken.conf", "{")
	write("20-other.conf", `{"cniVersion": "1.0.0", "name": "other", "type": "macvlan"}`)
	write("30-lan.conflist", `{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "macvlan"}]}`)
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	found := filepath.Join(dir, "30-lan.conflist")
	warnings := []string{fmt.Sprintf("%s:1: lan has no spec.config; its network is that of %s", path, found)}
	if f.Path != found || f.Network != "lan" || !slices.Equal(f.Warnings, warnings) {
		t.Errorf("got %s of %s and %q, want lan of %s and %q", f.Network, f.Path, f.Warnings, found, warnings)
	}
}

func TestLoadNetwork(t *testing.T) {
	data, err := txtar.ParseFile("testdata/field-more.txtar")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "two.yaml")
	for _, f := range data.Files {
		if f.Name == "R03-two-documents.yaml" {
			if err := os.WriteFile(path, f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct{ network, want, wantErr string }{
		{"one", "one", ""},
		{"red/two", "second", ""},
		{"second", "second", ""},
		{"three", "", path + `: no network "three"; it holds red/one, red/two`},
		{"", "", path + `: 2 networks; choose one with --network: red/one, red/two`},
	} {
		t.Run(tt.network, func(t *testing.T) {
			f, err := LoadNetwork(path, tt.network)
			if err == nil {
				err = errors.New("")
			}
			if err.Error() != tt.wantErr || f != nil && f.Network != tt.want {
				t.Errorf("got %v and %v, want %s and %q", f, err, tt.want, tt.wantErr)
			}
		})
	}
}

// TestParse_key_twice wants the error of kubectl, and not one of the two values.
func TestParse_key_twice(t *testing.T) {
	const text = `apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: lan}
spec:
  config: '{"cniVersion": "1.0.0", "type": "mynet"}'
  config: '{"cniVersion": "1.0.0", "type": "yournet"}'
`
	const pod = "kind: Pod\nmetadata: {name: web, name: db}\n---\n"
	for _, tt := range []struct{ text, want string }{
		{text, `nad.yaml:6: "config" stands already in line 5; remove one of the two`},
		{pod + text, `nad.yaml:9: "config" stands already in line 8; remove one of the two`},
	} {
		if _, err := Parse("nad.yaml", []byte(tt.text)); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func TestMissingBinaries(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "macvlan"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sbr"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Load("testdata/field/R09-whereabouts-dash-range.conflist")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("FILE", f.Path, "DIR", dir).Replace(`
FILE:10: no program for whereabouts, the IPAM plugin of macvlan (line 6): it is not in DIR; build it from github.com/k8snetworkplumbingwg/whereabouts, and put its program there, or name its directory with --bin-dir
FILE:16: no program for plugin tuning: it is not in DIR; build it from github.com/containernetworking/plugins, and put its program there, or name its directory with --bin-dir
FILE:17: no program for plugin sbr: DIR/sbr is not an executable file; build it from github.com/containernetworking/plugins, and put its program there, or name its directory with --bin-dir`)
	if got := "\n" + fmt.Sprint(f.MissingBinaries(dir)); got != want {
		t.Errorf("-got +want:\n%s", cmp.Diff(got, want))
	}
}

// TestInterfaces reads the names of interfaces from pods in the same file as definitions.
func TestInterfaces(t *testing.T) {
	const text = `apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: lan, namespace: red}
spec: {config: '{"cniVersion": "1.0.0", "type": "mynet"}'}
---
kind: Pod
metadata: {name: web, annotations: {k8s.v1.cni.cncf.io/networks: "blue/lan@no, red/lan@storage0,lan@storage1, wan"}}
---
kind: Deployment
spec:
  template:
    metadata:
      annotations:
        k8s.v1.cni.cncf.io/networks: '[{"name": "lan", "namespace": "red", "interface": "backup0"}, {"name": "lan"}]'
`
	f, err := Parse("nads.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.Interfaces, " "); got != "storage0 storage1 backup0" {
		t.Errorf("got %s, want storage0 storage1 backup0", got)
	}
}
