package conflist

import (
	"fmt"
	"strings"
	"testing"
)

func TestPlanBeside(t *testing.T) {
	const pool = `"ipam": {"type": "host-local", "ranges": [[{"subnet": "SUBNET"}]]}`
	of := func(plugin, subnet string) string {
		return `{"cniVersion": "1.0.0", "name": "beside", "plugins": [{` + plugin + `, ` +
			strings.Replace(pool, "SUBNET", subnet, 1) + `}]}`
	}
	tested, err := Parse("tested.conflist", []byte(of(`"type": "macvlan", "master": "eno1"`, "10.20.0.0/16")))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := tested.Plan(PlanOptions{Nodes: nodes("a", "b")})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"its pods are behind the nodes", of(`"type": "ptp"`, "10.23.0.0/16"), "eno1 [10.20.0.2/16] [10.23.0.0/24]"},
		{
			"it is on the same uplink", of(`"type": "macvlan", "master": "eno1"`, "10.66.0.0/16"),
			"eno1 [10.66.0.2/16] []",
		},
		{
			"it has an uplink of its own", of(`"type": "macvlan", "master": "eno2"`, "10.66.0.0/16"),
			"eno2 [10.66.0.2/16] []",
		},
		{
			"it has the same subnet", of(`"type": "macvlan", "master": "eno2"`, "10.20.1.0/24"),
			"b: its network 10.20.1.0/24 overlaps 10.20.0.0/16 of beside; give one of the two another subnet",
		},
		{
			"it is leased", `{"cniVersion": "1.0.0", "name": "n", "type": "macvlan", "ipam": {"type": "dhcp"}}`,
			"b: the lab brings addresses for the tested network alone, by DHCP or as a runtime; take one with " +
				"host-local beside it, or test this one",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			other, err := Parse("b", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if beside, err := other.PlanBeside(plan); err != nil {
				got = err.Error()
			} else {
				got = fmt.Sprint(beside.Uplink, " ", beside.Nodes[0].Addresses, " ", beside.Nodes[0].PodPrefixes)
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
