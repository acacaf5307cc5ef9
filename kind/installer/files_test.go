package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// machine has what an image has, and a node with a loopback plugin and a conflist of somebody's.
func machine(t *testing.T, conflist string) (Paths, string) {
	t.Helper()
	root := t.TempDir()
	for path, text := range map[string]string{
		"plugins/route": "new route", "plugins/loopback": "another loopback", "conflist/05-route.conflist": conflist,
		"bin/loopback": "the node's loopback", "net.d/99-other.conflist": "other",
	} {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
		check(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o644))
	}
	at := func(name string) string { return filepath.Join(root, name) }
	return Paths{Plugins: at("plugins"), Conflists: at("conflist"), BinDir: at("bin"), ConflistDir: at("net.d")}, root
}

// files returns the texts of the node's files.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range []string{"bin", "net.d"} {
		check(t, filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			found[path[len(root)+1:]] = string(text)
			return err
		}))
	}
	return found
}

const template = `{"name": "route", "plugins": [{"type": "macvlan", "ip": "${NODE_IP}", "start": ` +
	`"172.18.${NODE_INDEX}.2", "on": "${NODE_NAME}"}]}`

func TestPaths_Install(t *testing.T) {
	paths, root := machine(t, template)
	before := files(t, root)
	node := Node{Name: "worker", IP: "172.18.0.3", Index: 129}
	want := map[string]string{
		"bin/.cnitest-plugins": "route\n", "bin/.cnitest-conflists": "05-route.conflist\n",
		"bin/loopback": "the node's loopback", "bin/route": "new route", "net.d/99-other.conflist": "other",
		"net.d/05-route.conflist": `{"name": "route", "plugins": [{"type": "macvlan", "ip": "172.18.0.3", "start": "172.18.129.2", "on": "worker"}]}`,
	}
	for range 2 {
		check(t, paths.Install(node))
		if diff := cmp.Diff(want, files(t, root)); diff != "" {
			t.Errorf("after install (-want +got):\n%s", diff)
		}
	}
	check(t, os.WriteFile(filepath.Join(root, "plugins/route"), []byte("newer route"), 0o644))
	check(t, paths.Install(node))
	want["bin/route"] = "newer route"
	if diff := cmp.Diff(want, files(t, root)); diff != "" {
		t.Errorf("after an update (-want +got):\n%s", diff)
	}
	for range 2 {
		check(t, paths.Uninstall())
		if diff := cmp.Diff(before, files(t, root)); diff != "" {
			t.Errorf("after uninstall (-want +got):\n%s", diff)
		}
	}
}

// As `kubectl apply -k` of another folder does.
func TestPaths_Install_another_conflist(t *testing.T) {
	paths, root := machine(t, template)
	before := files(t, root)
	check(t, paths.Install(Node{}))
	from := filepath.Join(root, "conflist")
	check(t, os.Rename(filepath.Join(from, "05-route.conflist"), filepath.Join(from, "05-veth-to-host.conflist")))
	check(t, paths.Install(Node{}))
	got, _ := os.ReadDir(paths.ConflistDir)
	var names []string
	for _, e := range got {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"05-veth-to-host.conflist", "99-other.conflist"}, names); diff != "" {
		t.Errorf("conflists (-want +got):\n%s", diff)
	}
	// What the image holds by then does not matter.
	check(t, os.Remove(filepath.Join(from, "05-veth-to-host.conflist")))
	check(t, paths.Uninstall())
	if diff := cmp.Diff(before, files(t, root)); diff != "" {
		t.Errorf("after uninstall (-want +got):\n%s", diff)
	}
}

func TestPaths_Install_refuses(t *testing.T) {
	for _, tt := range []struct{ name, conflist, wantErr string }{
		{"no JSON", "{", "05-route.conflist: unexpected end of JSON input"},
		{"no plugins", `{"name": "x"}`, "05-route.conflist: want a name and plugins"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			paths, root := machine(t, tt.conflist)
			before := files(t, root)
			err := paths.Install(Node{})
			if err == nil || err.Error() != tt.wantErr {
				t.Errorf("got %v, want %s", err, tt.wantErr)
			}
			if diff := cmp.Diff(before, files(t, root)); diff != "" {
				t.Errorf("after an error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIndex(t *testing.T) {
	for _, tt := range []struct {
		cidr    string
		want    int
		wantErr string
	}{
		{cidr: "172.18.129.0/24", want: 129},
		{cidr: "fd00:172:18:8001::/64", want: 1},
		{cidr: "172.18.0.0/16", wantErr: "pod CIDR 172.18.0.0/16: want an IPv4 prefix of 24 bits or an IPv6 prefix of 64"},
		{cidr: "fd00::/24", wantErr: "pod CIDR fd00::/24: want an IPv4 prefix of 24 bits or an IPv6 prefix of 64"},
		{cidr: "", wantErr: `pod CIDR: netip.ParsePrefix(""): no '/'`},
	} {
		t.Run(tt.cidr, func(t *testing.T) {
			got, err := index(tt.cidr)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.wantErr {
				t.Errorf("got %d, %q, want %d, %q", got, text, tt.want, tt.wantErr)
			}
		})
	}
}
