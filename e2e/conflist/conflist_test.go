package conflist

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestLoad(t *testing.T) {
	type object = map[string]any
	for _, tt := range []struct {
		file string
		want *File
	}{
		{"seed-veth-to-host.conflist", &File{
			Network:    "cni0",
			CNIVersion: "0.3.1",
			Plugins: []Plugin{
				{Type: "macvlan", IPAM: "host-local", Config: object{
					"name": "mymacvlan", "type": "macvlan", "master": "enp5s0f0",
					"ipam": object{
						"type": "host-local", "subnet": "10.10.20.0/24", "rangeStart": "10.10.20.50",
						"rangeEnd": "10.10.20.60", "gateway": "10.10.20.254",
						"routes": []any{object{"dst": "0.0.0.0/0"}},
					},
				}},
				{Type: "veth-to-host", Config: object{
					"name": "myptp", "type": "veth-to-host", "hostInterface": "enp5s0f0",
					"containerInterface": "veth0", "ipMasq": true,
				}},
			},
		}},
		{"single.conf", &File{
			Network:    "one",
			CNIVersion: "0.3.1",
			Plugins: []Plugin{{Type: "macvlan", IPAM: "host-local", Config: object{
				"cniVersion": "0.3.1", "name": "one", "type": "macvlan", "master": "eth1",
				"ipam": object{"type": "host-local", "subnet": "10.3.0.0/24"},
			}}},
		}},
		{"placeholders.conflist", &File{
			Network:    "own-ranges",
			CNIVersion: "1.0.0",
			Plugins: []Plugin{
				{Type: "macvlan", IPAM: "host-local", Config: object{
					"type": "macvlan", "master": "eth1",
					"ipam": object{
						"type": "host-local", "subnet": "10.4.0.0/16", "rangeStart": "10.4.1.1",
						"rangeEnd": "10.4.1.99",
					},
				}},
				{Type: "veth-to-host", Config: object{
					"type": "veth-to-host", "node": "node", "via": "192.0.2.1", "table": json.Number("101"),
				}},
			},
		}},
		{"reserved.conflist", &File{
			Network:     "warned",
			CNIVersion:  "1.0.0",
			CNIVersions: []string{"0.3.1", "1.0.0", "9.9.9"},
			DisableGC:   true,
			Plugins: []Plugin{{Type: "macvlan", Config: object{
				"type": "macvlan", "master": "eth1", "runtimeConfig": object{"mac": "02:00:00:00:00:01"},
				"args": object{"cni": object{}}, "cni.dev/valid-attachments": []any{},
			}}},
			Warnings: []string{
				`testdata/reserved.conflist:10: "master" occurs twice in one object, first in line 9, and the last one counts, "eth1"; remove one`,
				`testdata/reserved.conflist:11: macvlan has the key "runtimeConfig", which is the runtime's to fill in; remove it`,
				`testdata/reserved.conflist:12: macvlan has the key "args", which is the runtime's to fill in; remove it`,
				`testdata/reserved.conflist:13: macvlan has the key "cni.dev/valid-attachments", which is the runtime's to fill in; remove it`,
			},
		}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			path := filepath.Join("testdata", tt.file)
			got, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Path, tt.want.Source = path, source
			if diff := cmp.Diff(got, tt.want, cmpopts.IgnoreUnexported(File{})); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}

func TestLoad_no_file(t *testing.T) {
	_, err := Load("testdata/none.conflist")
	if got, want := err.Error(), "open testdata/none.conflist: no such file or directory"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v: want fs.ErrNotExist", err)
	}
}

func TestCapabilities(t *testing.T) {
	f := load(t, "bridge.conflist")
	if diff := cmp.Diff(f.Capabilities(), []string{"bandwidth", "portMappings"}); diff != "" {
		t.Errorf("capabilities, -got +want:\n%s", diff)
	}
	if diff := cmp.Diff(f.Types(), []string{"bridge", "host-local", "portmap", "bandwidth"}); diff != "" {
		t.Errorf("types, -got +want:\n%s", diff)
	}
}

func load(t *testing.T, file string) *File {
	t.Helper()
	f, err := Load(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestLoad_folder warns about plugins that libcni takes from files of a folder, and the suite does not.
func TestLoad_folder(t *testing.T) {
	dir := t.TempDir()
	more := filepath.Join(dir, "n", "10-tuning.conf")
	if err := os.Mkdir(filepath.Dir(more), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{
			"n.conflist", `{"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "macvlan"}]}`,
			":1: libcni from 1.3 on appends " + more + " to the plugins, and only those of the list are run here; " +
				`write them into the list, with "loadOnlyInlinedPlugins": true`,
		},
		{"other.conflist", `{"cniVersion": "1.1.0", "name": "other", "plugins": [{"type": "macvlan"}]}`, ""},
		{"inlined.conflist", `{"cniVersion": "1.1.0", "name": "n", "loadOnlyInlinedPlugins": true, ` +
			`"plugins": [{"type": "macvlan"}]}`, ""},
		{"single.conf", `{"cniVersion": "1.1.0", "name": "n", "type": "macvlan"}`, ""},
	} {
		path := filepath.Join(dir, tt.name)
		for file, text := range map[string]string{path: tt.text, more: `{"type": "tuning"}`} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		if tt.want != "" {
			want = []string{path + tt.want}
		}
		if diff := cmp.Diff(f.Warnings, want); diff != "" {
			t.Errorf("%s: -got +want:\n%s", tt.name, diff)
		}
	}
}
