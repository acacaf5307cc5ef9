package conflist

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/internal/fuzzseed"
)

// TestPlan_conflist compares a whole conflist: placeholders replaced, plugins added, unknown keys and large numbers
// kept.
func TestPlan_conflist(t *testing.T) {
	for _, tt := range []struct {
		file string
		opts PlanOptions
		want string
	}{
		{"placeholders.conflist", PlanOptions{Nodes: nodes("one", "two")}, `{
  "cniVersion": "1.0.0",
  "name": "own-ranges",
  "plugins": [
    {
      "ipam": {
        "rangeEnd": "10.4.2.99",
        "rangeStart": "10.4.2.1",
        "subnet": "10.4.0.0/16",
        "type": "host-local"
      },
      "master": "eth2",
      "type": "macvlan"
    },
    {
      "node": "two",
      "table": 102,
      "type": "veth-to-host",
      "via": "10.4.0.3"
    }
  ]
}
`},
		{"reserved.conflist", PlanOptions{
			Nodes: nodes("one", "two"),
			Chain: Chain{
				AfterMain: []map[string]any{{"type": "recorder", "n": 1}, {"type": "recorder", "n": 2}},
				Append:    []map[string]any{{"type": "last"}},
			},
		}, `{
  "cniVersion": "0.4.0",
  "cniVersions": [
    "0.3.1",
    "1.0.0",
    "9.9.9"
  ],
  "disableGC": "TRUE",
  "name": "warned",
  "plugins": [
    {
      "args": {
        "cni": {}
      },
      "cni.dev/valid-attachments": [],
      "master": "eth1",
      "runtimeConfig": {
        "mac": "02:00:00:00:00:01"
      },
      "type": "macvlan"
    },
    {
      "n": 1,
      "type": "recorder"
    },
    {
      "n": 2,
      "type": "recorder"
    },
    {
      "type": "last"
    }
  ]
}
`},
	} {
		t.Run(tt.file, func(t *testing.T) {
			p, err := load(t, tt.file).Plan(tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(p.Nodes[1].Conflist), tt.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}

func TestPlan_added_plugin_without_type(t *testing.T) {
	_, err := load(t, "macvlan.conflist").Plan(PlanOptions{
		Nodes: nodes("a"),
		Chain: Chain{Append: []map[string]any{{"name": "nameless"}}},
	})
	want := "node/a: testdata/macvlan.conflist: libcni: failed to parse plugin config 1: error parsing " +
		"configuration: missing 'type'"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestPlan_same_network compares what libcni reads from a node's conflist with what it reads from the user's file, for
// a node that has all addresses of the file.
func TestPlan_same_network(t *testing.T) {
	for _, file := range []string{
		"seed-route.conflist", "seed-veth-to-host.conflist", "bridge.conflist", "ipv6.conflist",
	} {
		t.Run(file, func(t *testing.T) {
			p, err := load(t, file).Plan(PlanOptions{Nodes: nodes("a")})
			if err != nil {
				t.Fatal(err)
			}
			source, err := os.ReadFile(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			got, err := libcni.NetworkConfFromBytes(p.Nodes[0].Conflist)
			if err != nil {
				t.Fatal(err)
			}
			want, err := libcni.NetworkConfFromBytes(source)
			if err != nil {
				t.Fatal(err)
			}
			got.Bytes, want.Bytes = nil, nil
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	fuzzseed.Add(f, "testdata/*.conf*", "testdata/bad/*")
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("fuzz.conflist", data)
		if err != nil {
			return
		}
		if _, err := file.Plan(PlanOptions{Nodes: nodes("a", "b")}); err != nil {
			return
		}
	})
}
