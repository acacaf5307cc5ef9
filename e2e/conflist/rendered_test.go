package conflist

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRendered(t *testing.T) {
	const list = `{"cniVersion":"1.1.0","disableCheck":true,"name":"net","plugins":[
		{"type":"tuning"},{"type":"macvlan","ipam":{"type":"host-local","dataDir":"/run/x"}}]}`
	r, err := ParseRendered([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.Prefix(1)
	if err != nil {
		t.Fatal(err)
	}
	input, err := r.Input(1)
	if err != nil {
		t.Fatal(err)
	}
	name, plugin := r.IPAM()
	got := map[string]any{
		"version": r.CNIVersion, "name": r.Name, "plugins": len(r.Plugins), "first": string(first),
		"input": string(input),
		"ipam":  name, "plugin": plugin,
	}
	if diff := cmp.Diff(got, map[string]any{
		"version": "1.1.0", "name": "net", "plugins": 2,
		"first": `{"cniVersion":"1.1.0","disableCheck":true,"name":"net","plugins":[{"type":"tuning"}]}`,
		"input": `{"cniVersion":"1.1.0","ipam":{"dataDir":"/run/x","type":"host-local"},"name":"net","type":"macvlan"}`,
		"ipam":  "host-local", "plugin": 1,
	}); diff != "" {
		t.Errorf("got, want:\n%s", diff)
	}
	if _, ok := r.Plugins[1]["cniVersion"]; ok {
		t.Error("Input changed the configuration in the list")
	}
}

func TestParseRendered_wrong(t *testing.T) {
	for data, want := range map[string]string{
		`{`:                            "conflist: unexpected end of JSON input",
		`{"name":"net"}`:               `conflist "net": want an array plugins, got <nil>`,
		`{"name":"net","plugins":[1]}`: `conflist "net": want an object plugins[0], got float64`,
	} {
		if _, err := ParseRendered([]byte(data)); err == nil || err.Error() != want {
			t.Errorf("%s: got error %v, want %s", data, err, want)
		}
	}
}

// The first plugins of a list declare what these plugins declare.
func TestRendered_Capabilities(t *testing.T) {
	list, err := ParseRendered([]byte(`{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "a", "capabilities": ` +
		`{"mac": true, "ips": false}}, {"type": "b", "capabilities": {"portMappings": true, "mac": true}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for plugins, want := range map[int]string{0: "[]", 1: "[mac]", 2: "[mac portMappings]"} {
		data, err := list.Prefix(plugins)
		if err != nil {
			t.Fatal(err)
		}
		first, err := ParseRendered(data)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(first.Capabilities()); got != want {
			t.Errorf("%d plugins: got %s, want %s", plugins, got, want)
		}
	}
}
