package conflist

import "testing"

func TestFile_InPod(t *testing.T) {
	for plugin, want := range map[string]string{
		`{"type": "macvlan", "master": "net0"}`:                                "",
		`{"type": "macvlan", "master": "net0", "linkInContainer": false}`:      "",
		`{"type": "tap", "bridge": ""}`:                                        "",
		`{"type": "bridge", "bridge": "br0"}`:                                  "",
		`{"type": "macvlan", "master": "net0", "linkInContainer": true}`:       "macvlan looks in the pod for net0",
		`{"type": "macvlan", "linkInContainer": true}`:                         "macvlan looks in the pod for its master",
		`{"type": "vlan", "vlanId": 1, "master": "a", "LinkInContainer":true}`: "vlan looks in the pod for a",
		`{"type": "tap", "bridge": "br0"}`:                                     "tap looks in the pod for br0",
		`{"type": "bond", "links": [{"name": "net1"}, {"name": "net2"}]}`:      "bond looks in the pod for net1 and net2",
	} {
		f, err := Parse("n.conf", []byte(`{"cniVersion": "1.0.0", "name": "n",`+"\n"+plugin[1:]))
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want = "n.conf:2: " + want + ", which another network must have put there"
		}
		if got := f.InPod(); got != want {
			t.Errorf("%s: got %q, want %q", plugin, got, want)
		}
	}
}

func TestFile_OnePod(t *testing.T) {
	const dhcp, tuning = `"ipam": {"type": "dhcp"}}`, `, {"type": "tuning", "mac": "02:00:00:00:00:01"}`
	for plugins, one := range map[string]bool{
		`{"type": "macvlan", ` + dhcp:                                                                false,
		`{"type": "macvlan", "mode": "passthru", ` + dhcp:                                            true,
		`{"type": "macvlan", "ipam": {"type": "static", "addresses": [{"address": "10.1.0.2/24"}]}}`: true,
		`{"type": "macvlan", "mac": "02:00:00:00:00:01", ` + dhcp:                                    true,
		`{"type": "macvlan", "mac": "", ` + dhcp:                                                     false,
		`{"type": "macvlan", ` + dhcp + tuning:                                                       true,
		`{"type": "bridge", ` + dhcp + tuning:                                                        true,
		`{"type": "ptp", ` + dhcp + tuning:                                                           false,
		`{"type": "macvlan", ` + dhcp + `, {"type": "tuning", "mtu": 1400}`:                          false,
	} {
		f, err := Parse("n.conflist", []byte(`{"cniVersion": "1.0.0", "name": "n", "plugins": [`+plugins+`]}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.OnePod(); (got != "") != one {
			t.Errorf("%s: got %q, want a reason: %t", plugins, got, one)
		}
	}
}

func TestFile_NoAddresses(t *testing.T) {
	for plugin, want := range map[string]bool{
		`{"type": "tap"}`: true,
		`{"type": "tap", "ipam": {"type": "dhcp"}}`: false,
		`{"type": "bridge", "isGateway": true}`:     true,
		`{"type": "bridge"}`:                        false, // on the LAN
		`{"type": "macvlan"}`:                       false,
		`{"type": "mine"}`:                          false, // it may know addresses
	} {
		f, err := Parse("n.conf", []byte(`{"cniVersion": "1.0.0", "name": "n",`+plugin[1:]))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.NoAddresses(); got != want {
			t.Errorf("%s: got %t, want %t", plugin, got, want)
		}
	}
}

func TestFile_Plan_of_the_LAN(t *testing.T) {
	const leased, ranges = `"ipam": {"type": "dhcp"}}`, `"ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}}`
	for plugin, want := range map[string]struct {
		uplink string
		mtu    int
		routed bool
	}{
		`{"type": "macvlan", "master": "bond0", "mtu": 9000,` + ranges:                 {"bond0", 9000, false},
		`{"type": "macvlan", "master": "bond0", "mtu": 1400,` + ranges:                 {"bond0", 1500, false},
		`{"type": "ptp", "mtu": 9000,` + ranges:                                        {"eth0", 1500, true},
		`{"type": "mine", "mtu": "9001",` + ranges:                                     {"eth0", 9001, true},
		`{"type": "bridge", "bridge": "br-lan",` + leased:                              {"br-lan", 1500, false},
		`{"type": "bridge",` + leased:                                                  {"cni0", 1500, false},
		`{"type": "bridge", "bridge": "br1", "mtu": 9000}`:                             {"br1", 9000, false},
		`{"type": "bridge", "bridge": "br1", "isGateway": true,` + ranges:              {"eth0", 1500, true},
		`{"type": "bridge", "bridge": "br1", "isDefaultGateway": true,` + leased:       {"eth0", 1500, true},
		`{"type": "bridge", "bridge": "br1", "mtu": 9000, "isGateway": true,` + ranges: {"eth0", 1500, true},
	} {
		f, err := Parse("n.conf", []byte(`{"cniVersion": "1.0.0", "name": "n",`+plugin[1:]))
		if err != nil {
			t.Fatal(err)
		}
		plan, err := f.Plan(PlanOptions{Nodes: []PlanNode{{Name: "a"}}})
		if err != nil {
			t.Fatal(err)
		}
		if plan.Uplink != want.uplink || plan.MTU != want.mtu || plan.Routed != want.routed {
			t.Errorf("%s: got %s, %d, %t, want %v", plugin, plan.Uplink, plan.MTU, plan.Routed, want)
		}
	}
}
