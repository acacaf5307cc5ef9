package conflist

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUnknownKeys warns about keys that a plugin does not have and that somebody meant, and about no others: those may
// be for another program.
func TestUnknownKeys(t *testing.T) {
	for _, tt := range []struct {
		name, plugin string
		want         []string
	}{
		{"a key of another plugin", `"type": "macvlan", "vlan": 5`, []string{
			`macvlan has no key "vlan", and leaves it out; it is a key of bridge`,
		}},
		{"a key of several", `"type": "bridge", "mac": "02:00:00:00:00:07"`, []string{
			`bridge has no key "mac", and leaves it out; it is a key of macvlan, tap, tuning`,
		}},
		{"a key of nobody", `"type": "macvlan", "resourceName": "intel.com/nic"`, nil},
		{"a plugin that nobody knows", `"type": "mine", "vlan": 5, "via": "10.1.0.1"`, nil},
		{"IPAM", `"type": "macvlan", "ipam": {"type": "static", "addresses": [{"address": "10.1.0.5/16"}], "subnet": "10.1.0.0/16", "route": []}`, []string{
			`static has no key "subnet", and leaves it out; it is a key of host-local`,
			`static has no key "route", and leaves it out; did you mean "routes"?`,
		}},
		{"whereabouts", `"type": "macvlan", "ipam": {"type": "whereabouts", "range": "10.1.0.0/16", "rangeStart": "10.1.0.9",
			"ipRanges": [{"range": "10.2.0.0/16", "rangeEnd": "10.2.0.9"}]}`, []string{
			`whereabouts has no key "rangeStart", and leaves it out; did you mean "range_start"?`,
			`whereabouts has no key "rangeEnd", and leaves it out; did you mean "range_end"?`,
		}},
		{"an object with few keys", `"type": "macvlan", "ipam": {"type": "host-local", "ranges": [[
			{"subnet": "10.1.0.0/16", "range_end": "10.1.0.9"}]]}`, []string{
			`host-local has no key "range_end", and leaves it out; did you mean "rangeEnd"?`,
		}},
		{"routes as ip writes them", `"type": "macvlan", "ipam": {"type": "host-local", "subnet": "10.1.0.0/16",
			"routes": [{"dst": "0.0.0.0/0", "via": "10.1.0.1", "metric": 5}]}`, []string{
			`host-local has no key "via", and leaves it out; did you mean "gw"?`,
			`host-local has no key "metric", and leaves it out; did you mean "priority"?`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("n.conflist", []byte(`{"cniVersion": "1.0.0", "name": "n", "plugins": [{`+tt.plugin+`}]}`))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range f.Warnings {
				_, text, _ := strings.Cut(w, " ")
				got = append(got, text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
