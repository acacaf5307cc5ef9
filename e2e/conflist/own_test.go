package conflist

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ownConflist = `{"cniVersion": "1.1.0", "name": "own", "plugins": [
{"type": "macvlan", "master": "eth1", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/16", "rangeStart": "10.77.0.10", "rangeEnd": "10.77.0.13"}]]}},
{"type": "route", "master": "eth1", "bridge": "eth1.host"},
{"type": "tuning", "device": "eth0", "sysctl": {"net.core.somaxconn": "eth1"}},
{"type": "several", "master": ["eth1", "eth2"]},
{"type": "inside", "master": "eth1", "linkInContainer": true}]}`

// TestPlanOwn makes plans for existing machines: no pod gets their addresses, and their uplink replaces the one that
// the file names.
func TestPlanOwn(t *testing.T) {
	own := func(text string) []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix(text)}
	}
	file, err := Parse("own.conflist", []byte(ownConflist))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := file.Plan(PlanOptions{Nodes: []PlanNode{
		{Name: "a", Own: own("10.77.0.11/16"), Uplink: "ens6"}, {Name: "b", Own: own("10.77.0.200/16"), Uplink: "eth1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		Uplink, Address, Range string
		Names                  []any
	}
	var got []node
	for _, n := range plan.Nodes {
		var list struct {
			Plugins []struct {
				Master, Bridge, Device any
				IPAM                   struct {
					Ranges [][]struct{ RangeStart, RangeEnd string }
				}
			}
		}
		if err := json.Unmarshal(n.Conflist, &list); err != nil {
			t.Fatal(err)
		}
		is := node{Uplink: n.Uplink, Address: n.Addresses[0].String()}
		for _, r := range list.Plugins[0].IPAM.Ranges[0] {
			is.Range += r.RangeStart + "-" + r.RangeEnd + " "
		}
		for _, p := range list.Plugins {
			is.Names = append(is.Names, p.Master)
		}
		is.Names = append(is.Names, list.Plugins[1].Bridge, list.Plugins[2].Device)
		got = append(got, is)
	}
	want := []node{
		{"ens6", "10.77.0.11/16", "10.77.0.10-10.77.0.10 ", []any{"ens6", "ens6", nil, []any{"ens6", "eth2"}, "eth1", "eth1.host", "eth0"}},
		{"eth1", "10.77.0.200/16", "10.77.0.12-10.77.0.13 ", []any{"eth1", "eth1", nil, []any{"eth1", "eth2"}, "eth1", "eth1.host", "eth0"}},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	wantNotes := []string{
		"node/a: the uplink is ens6; the conflist names eth1, which was replaced",
		"node/a: its share of the addresses is 10.77.0.10",
		"node/b: its share of the addresses is 10.77.0.12-10.77.0.13",
	}
	if diff := cmp.Diff(plan.Notes, wantNotes); diff != "" {
		t.Errorf("notes: got -, want +:\n%s", diff)
	}
	if len(plan.LANHost) > 0 || !cmp.Equal(plan.Router, []netip.Prefix{netip.MustParsePrefix("10.77.0.1/16")},
		cmp.Comparer(samePrefix)) {
		t.Errorf("got router %v and host %v, want the gateway and nobody", plan.Router, plan.LANHost)
	}

	_, err = file.Plan(PlanOptions{Nodes: []PlanNode{{Name: "a", Own: own("10.78.0.11/16"), Uplink: "ens6"}}})
	const wantErr = "own.conflist: node/a has no address in 10.77.0.0/16 on its uplink ens6; it has fe80::1/64, " +
		"10.78.0.11/16"
	if err == nil || err.Error() != wantErr {
		t.Errorf("got %v, want %s", err, wantErr)
	}
}

func samePrefix(a, b netip.Prefix) bool { return a == b }
