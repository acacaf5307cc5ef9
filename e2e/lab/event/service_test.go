package event_test

import (
	"os"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/e2e/lab/debian"
	"github.com/cnitest/cnitest/e2e/lab/event"
)

// needPrograms skips a test if Debian's programs are not there.
func needPrograms(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(debian.Dir()); err != nil {
		t.Skip("no programs of nodes; make node-programs")
	}
}

// tables returns the names of all tables of nf_tables.
func tables(t *testing.T) (names string) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Error(err)
		return ""
	}
	list, err := c.ListTables()
	if err != nil {
		t.Error(err)
	}
	for _, table := range list {
		names += table.Name + " "
	}
	return names
}

// TestHappen_firewalls shows that the programs run, and leave alone the tables of others.
func TestHappen_firewalls(t *testing.T) {
	for name, want := range map[string]string{
		event.FirewalldReloads: "foreign firewalld ", event.UFWReloads: "filter filter foreign ",
	} {
		t.Run(name, func(t *testing.T) {
			needPrograms(t)
			inNode(t, func(t *testing.T, n *event.Node) {
				c, err := nftables.New()
				if err != nil {
					t.Error(err)
					return
				}
				c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "foreign"})
				if err := c.Flush(); err != nil {
					t.Error(err)
				}
				happen(t, n, name)
				if got := tables(t); got != want {
					t.Errorf("got the tables %s, want %s", got, want)
				}
			}, name)
		})
	}
}

// TestHappen_managers shows what udev and NetworkManager do to a link that appears.
func TestHappen_managers(t *testing.T) {
	for _, name := range []string{event.UdevTriggered, event.NetworkManagerRestarts} {
		t.Run(name, func(t *testing.T) {
			needPrograms(t)
			inNode(t, func(t *testing.T, n *event.Node) {
				uplink := link(t, "eno1")
				attrs := netlink.NewLinkAttrs()
				attrs.Name, attrs.ParentIndex = "child", uplink.Attrs().Index
				child := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
				if err := netlink.LinkAdd(child); err != nil {
					t.Error(err)
				}
				if err := netlink.LinkSetUp(link(t, "child")); err != nil {
					t.Error(err)
				}
				happen(t, n, name)
				assigned, err := os.ReadFile("/sys/class/net/child/addr_assign_type")
				if err != nil || string(assigned) != "3\n" {
					t.Errorf("got a MAC of type %q, %v; want 3: udev sets it", assigned, err)
				}
				if got := link(t, "eno1").Attrs().HardwareAddr.String(); got != "02:00:00:00:00:01" {
					t.Errorf("got the MAC %s on eno1, which was chosen", got)
				}
			}, name)
		})
	}
}
