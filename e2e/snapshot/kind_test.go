package snapshot

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
)

// TestTake_kinds makes links and queues that not every kernel supports. Removing them again leaves nothing.
func TestTake_kinds(t *testing.T) {
	on := func(tb testing.TB, parent string) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name = "made"
		if parent != "" {
			a.ParentIndex = link(tb, parent).Attrs().Index
		}
		return a
	}
	ipvlan := func(mode netlink.IPVlanMode) func(testing.TB) error {
		return func(tb testing.TB) error {
			return netlink.LinkAdd(&netlink.IPVlan{LinkAttrs: on(tb, "eno1"), Mode: mode})
		}
	}
	const ether = "<BROADCAST,MULTICAST> mtu 1500 state DOWN group 0 qlen 1000 link/ether 02:00:00:00:00:01 parent " +
		"eno1 "
	for _, tt := range []struct {
		name, needs string
		change      func(testing.TB) error
		want        []string
	}{
		{"dummy", "dummy", func(tb testing.TB) error {
			a := on(tb, "")
			a.HardwareAddr = parseMAC(tb, "02:00:00:00:00:07")
			return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: a})
		}, []string{
			"+ link made: <BROADCAST,NOARP> mtu 1500 state DOWN group 0 qlen 1000 link/ether 02:00:00:00:00:07 dummy",
		}},
		{"ipvlan in mode l2", "ipvlan", ipvlan(netlink.IPVLAN_MODE_L2), []string{"+ link made: " + ether + "ipvlan mode 0 flag 0"}},
		{"ipvlan in mode l3", "ipvlan", ipvlan(netlink.IPVLAN_MODE_L3), []string{"+ link made: " + ether + "ipvlan mode 1 flag 0"}},
		{"ipvlan in mode l3s", "ipvlan", ipvlan(netlink.IPVLAN_MODE_L3S), []string{"+ link made: " + ether + "ipvlan mode 2 flag 0"}},
		{"vlan", "vlan", func(tb testing.TB) error {
			return netlink.LinkAdd(&netlink.Vlan{
				LinkAttrs: on(tb, "eno1"), VlanId: 7, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q,
			})
		}, []string{"+ link made: " + ether + "vlan protocol 802.1q id 7"}},
		{"vrf", "vrf", func(tb testing.TB) error {
			a := on(tb, "")
			a.HardwareAddr = parseMAC(tb, "02:00:00:00:00:07")
			return netlink.LinkAdd(&netlink.Vrf{LinkAttrs: a, Table: 10})
		}, []string{
			"+ link made: <NOARP,MASTER> mtu 65575 state DOWN group 0 qlen 1000 link/ether 02:00:00:00:00:07 vrf table 10",
			// The first VRF of a namespace adds them (drivers/net/vrf.c, vrf_add_fib_rules).
			"+ rule inet 1000: from all no lookup proto kernel",
			"+ rule inet6 1000: from all no lookup proto kernel",
		}},
		{"netem", "netem", func(tb testing.TB) error {
			return netlink.QdiscAdd(netlink.NewNetem(netlink.QdiscAttrs{
				LinkIndex: link(tb, "eno1").Attrs().Index, Handle: netlink.MakeHandle(1, 0),
				Parent: netlink.HANDLE_ROOT,
			}, netlink.NetemQdiscAttrs{Limit: 100}))
		}, []string{"~ qdisc dev eno1 root: noqueue -> netem handle 1:0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			isolateNode(t)
			opts := Options{Kinds: []string{Link, Address, Route, Rule, Neighbour, Qdisc}}
			before := take(t, opts)
			err := tt.change(t)
			// A queue of an unknown kind is not found (sched_api.c, qdisc_create).
			if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
				kerneltest.Lacks(t, tt.needs)
			}
			check(t, err)
			changes := Diff(before, take(t, opts))
			if diff := cmp.Diff(lines(changes), tt.want); diff != "" {
				t.Errorf("changes (-got +want):\n%s", diff)
			}
			for _, c := range changes {
				if err := Revertible(c); err != nil {
					t.Fatal(err)
				}
				check(t, Revert(t.Context(), c, opts))
			}
			if diff := cmp.Diff(lines(Diff(before, take(t, opts))), []string(nil)); diff != "" {
				t.Errorf("changes after they were taken back (-got +want):\n%s", diff)
			}
		})
	}
}
