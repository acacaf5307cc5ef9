package eni

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
)

const (
	rulesBefore = "0: from all lookup local"
	rulesAfter  = "32766: from all lookup main\n32767: from all lookup default"
	eniRules    = "32765: from 10.0.1.10 lookup 2\n32765: from 10.0.2.10 lookup 3"
	wantRoutes  = "10.0.0.0/24 dev eth0\n10.0.1.1 dev eth1 table 2\n10.0.2.1 dev eth2 table 3\n" +
		"default via 10.0.0.1 dev eth0\ndefault via 10.0.1.1 dev eth1 table 2\ndefault via 10.0.2.1 dev eth2 table 3"
	wantAddresses = "eth0 mtu 1400 10.0.0.10/24\neth1 mtu 1400 10.0.1.10/24\neth2 mtu 1400 10.0.2.10/24"
)

func seedRules(node string) string {
	return rulesBefore + "\n" + node + "\n" + eniRules + "\n" + rulesAfter
}

func (l *lab) ensure(opts Options, warnings ...string) Result {
	l.t.Helper()
	result, err := New(opts).Ensure(inventory())
	if err != nil {
		l.t.Error(err)
	}
	if diff := cmp.Diff(warnings, result.Warnings); diff != "" {
		l.t.Errorf("warnings (-want +got):\n%s", diff)
	}
	return result
}

func (l *lab) same(what, got, want string) {
	l.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		l.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// The node's rules are those of the design, as ip prints them.
func TestNode_Ensure(t *testing.T) {
	inLab(t, func(l *lab) {
		l.ok(l.sysctl("ip_forward", "1"))
		for range 2 { // repeating it changes nothing
			if result := l.ensure(l.options()); len(result.Unusable) != 0 {
				t.Errorf("got unusable %v, want none", result.Unusable)
			}
			l.same("rules", l.rules(),
				seedRules("1024: from all fwmark 0x80/0x80 lookup main\n1025: not from all to 10.0.0.0/16 lookup main"))
			l.same("routes", l.routes(), wantRoutes)
			l.same("addresses", l.addresses(), wantAddresses)
			l.same("table", l.table(), "guard 2\nprerouting 2\npostrouting 2\n")
		}
	})
}

// table returns the chains of ipamd's table with the number of their rules.
func (l *lab) table() string {
	conn, err := nftables.New()
	l.ok(err)
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	l.ok(err)
	var text string
	for _, c := range chains {
		rules, err := conn.GetRules(c.Table, c)
		l.ok(err)
		text += fmt.Sprintln(c.Name, len(rules))
	}
	return text
}

func TestNode_Ensure_options(t *testing.T) {
	const several = "1025: from all to 10.0.0.0/16 goto 1027\n1025: from all to 100.64.0.0/10 goto 1027\n1026: from " +
		"all lookup main\n1027: from all nop"
	const mark = "1024: from all fwmark 0x80/0x80 lookup main"
	inLab(t, func(l *lab) {
		l.ok(l.sysctl("ip_forward", "1"))
		// The cases run one after the other on the same node: what an earlier one left and a later one does not want is
		// removed.
		for _, tt := range []struct {
			name                 string
			nodePorts, external  bool
			vpc                  []string
			wantRules, wantTable string
		}{
			{"all", true, false, []string{"10.0.0.0/16"}, mark + "\n1025: not from all to 10.0.0.0/16 lookup main", "guard 2\nprerouting 2\npostrouting 2\n"},
			{"several ranges", true, false, []string{"10.0.0.0/16", "100.64.0.0/10"}, mark + "\n" + several, "guard 2\nprerouting 2\npostrouting 3\n"},
			{"external translation", true, true, []string{"10.0.0.0/16", "100.64.0.0/10"}, mark, "guard 2\nprerouting 2\n"},
			{"no node ports", false, false, []string{"10.0.0.0/16"}, "1025: not from all to 10.0.0.0/16 lookup main", "guard 2\npostrouting 2\n"},
			{"neither", false, true, []string{"10.0.0.0/16"}, "", ""},
			{"several ranges again", true, false, []string{"10.0.0.0/16", "100.64.0.0/10"}, mark + "\n" + several, "guard 2\nprerouting 2\npostrouting 3\n"},
			{"all again", true, false, []string{"10.0.0.0/16"}, mark + "\n1025: not from all to 10.0.0.0/16 lookup main", "guard 2\nprerouting 2\npostrouting 2\n"},
		} {
			opts, inv := l.options(), inventory()
			opts.NodePorts, opts.ExternalSNAT, inv.VPC = tt.nodePorts, tt.external, nil
			opts.CheckSources = tt.wantTable != ""
			for _, prefix := range tt.vpc {
				inv.VPC = append(inv.VPC, netip.MustParsePrefix(prefix))
			}
			if _, err := New(opts).Ensure(inv); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			want := seedRules(tt.wantRules)
			if tt.wantRules == "" {
				want = rulesBefore + "\n" + eniRules + "\n" + rulesAfter
			}
			l.same(tt.name, l.rules(), want)
			l.same(tt.name, l.table(), tt.wantTable)
		}
	})
}

// Changes of others to ipamd's objects are undone, and objects of others stay.
func TestNode_Ensure_disturbed(t *testing.T) {
	inLab(t, func(l *lab) {
		l.ok(l.sysctl("ip_forward", "1"))
		foreign := netlink.NewRule()
		foreign.Priority, foreign.Mark, foreign.Table = 1024, 0x1, 7
		pod := netlink.NewRule()
		pod.Priority, pod.Src, pod.Table = 1536, &net.IPNet{IP: net.IPv4(10, 0, 1, 20), Mask: net.CIDRMask(32, 32)}, 2
		l.ok(netlink.RuleAdd(foreign))
		l.ok(netlink.RuleAdd(pod))
		// A DHCP client leaves an ENI like this: with all addresses, and routes in the main table.
		l.ok(l.up("eth1"))
		l.ok(l.address("eth1", "10.0.1.10/24"))
		l.ok(l.address("eth1", "10.0.1.20/24"))
		link, err := netlink.LinkByName("eth1")
		l.ok(err)
		l.ok(netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(10, 0, 1, 1), Priority: 100}))
		want := rulesBefore + "\n1024: from all fwmark 0x1/0xffffffff lookup 7\n1024: from all fwmark 0x80/0x80 " +
			"lookup main\n" +
			"1025: not from all to 10.0.0.0/16 lookup main\n1536: from 10.0.1.20 lookup 2\n" + eniRules + "\n" +
			rulesAfter
		check := func() {
			t.Helper()
			l.ensure(l.options())
			l.same("rules", l.rules(), want)
			l.same("routes", l.routes(), wantRoutes)
			l.same("addresses", l.addresses(), wantAddresses)
			l.same("table", l.table(), "guard 2\nprerouting 2\npostrouting 2\n")
		}
		check()
		// Somebody refuses packets between ipamd's rules, and those of an ENI's address.
		refuse := netlink.NewRule()
		refuse.Family, refuse.Priority, refuse.Type = netlink.FAMILY_V4, 1026, unix.RTN_BLACKHOLE
		l.ok(netlink.RuleAdd(refuse))
		refuse.Priority, refuse.Type = 32765, unix.RTN_PROHIBIT
		refuse.Src = &net.IPNet{IP: net.IPv4(10, 0, 1, 10), Mask: net.CIDRMask(32, 32)}
		l.ok(netlink.RuleAdd(refuse))
		check()
		// A link that goes down loses its routes; and somebody flushes tables and rules.
		l.ok(netlink.LinkSetDown(link))
		rules, err := l.node.Rules()
		l.ok(err)
		for _, r := range rules {
			if r.Priority == 1025 || r.Priority == 32765 || r.Mark == 0x80 {
				l.ok(l.node.DeleteRule(r))
			}
		}
		conn, err := nftables.New()
		l.ok(err)
		conn.FlushTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4})
		l.ok(conn.Flush())
		check()
	})
}

func TestNode_Ensure_unusable(t *testing.T) {
	inLab(t, func(l *lab) {
		l.ok(l.sysctl("ip_forward", "1"))
		l.ensure(l.options())
		inv := inventory()
		inv.ENIs[1].MAC = "02:00:00:00:00:99" // its link is missing for a moment
		inv.ENIs[2].Address, inv.ENIs[2].Secondary = netip.Addr{}, []netip.Addr{netip.MustParseAddr("2001:db8::9")}
		far := inventory().ENIs[2]
		far.ID, far.Device = "eni-far", 251
		inv.ENIs = append(inv.ENIs, far)
		result, err := New(l.options()).Ensure(inv)
		l.ok(err)
		got := map[string]string{}
		for id, err := range result.Unusable {
			got[id] = err.Error()
		}
		want := map[string]string{
			"eni-1":   "no link has MAC 02:00:00:00:00:99",
			"eni-2":   "the ENI has no IPv4 address",
			"eni-far": "device number 251: no routing table is left for it",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		// The rule of an ENI that is still attached stays; that of a detached ENI is removed.
		inv = inventory()
		inv.ENIs = inv.ENIs[:2]
		inv.ENIs[1].MAC = "02:00:00:00:00:99"
		if _, err := New(l.options()).Ensure(inv); err != nil {
			t.Error(err)
		}
		l.same("rules", l.rules(), rulesBefore+"\n1024: from all fwmark 0x80/0x80 lookup main\n1025: not from all to "+
			"10.0.0.0/16 lookup main\n32765: from 10.0.1.10 lookup 2\n"+rulesAfter)
		inv.ENIs[0].MAC = "02:00:00:00:00:99"
		if _, err := New(l.options()).Ensure(inv); fmt.Sprint(err) != "primary ENI eni-0: no link has MAC "+
			"02:00:00:00:00:99" {
			t.Errorf("got %v", err)
		}
	})
}

// A Node that knows the links follows what happens to them.
func TestNode_Ensure_links(t *testing.T) {
	inLab(t, func(l *lab) {
		l.ok(l.sysctl("ip_forward", "1"))
		node := New(l.options())
		check := func(unusable ...string) {
			t.Helper()
			result, err := node.Ensure(inventory())
			l.ok(err)
			var got []string
			for _, err := range result.Unusable {
				got = append(got, err.Error())
			}
			if diff := cmp.Diff(unusable, got); diff != "" {
				t.Errorf("unusable (-want +got):\n%s", diff)
			}
			if len(unusable) == 0 {
				l.same("routes", l.routes(), wantRoutes)
				l.same("addresses", l.addresses(), wantAddresses)
			}
		}
		check()
		link, err := netlink.LinkByName("eth2")
		l.ok(err)
		l.ok(netlink.LinkDel(link)) // the ENI is detached,
		check("no link has MAC 02:00:00:00:00:12")
		l.attach(2) // and comes back, with another index
		check()
		check()
		// The two secondary ENIs change places.
		first, err := netlink.LinkByName("eth1")
		l.ok(err)
		second, err := netlink.LinkByName("eth2")
		l.ok(err)
		for link, name := range map[netlink.Link]string{first: "eth2", second: "eth1"} {
			l.ok(netlink.LinkSetDown(link))
			l.ok(netlink.LinkSetName(link, name+"-"))
		}
		l.ok(netlink.LinkSetHardwareAddr(first, second.Attrs().HardwareAddr))
		l.ok(netlink.LinkSetHardwareAddr(second, first.Attrs().HardwareAddr))
		l.ok(netlink.LinkSetName(first, "eth2"))
		l.ok(netlink.LinkSetName(second, "eth1"))
		check()
	})
}

// A Node lists the links again if one of an ENI that it uses is missing, and not if one of another is.
func TestNode_Ensure_lists(t *testing.T) {
	for tag, want := range map[string]bool{"false": true, "true": false} {
		inLab(t, func(l *lab) {
			l.ok(l.sysctl("ip_forward", "1"))
			link, err := netlink.LinkByName("eth2")
			l.ok(err)
			l.ok(netlink.LinkDel(link))
			inv := inventory()
			inv.ENIs[2].Tags = map[string]string{cloud.NoManageTag: tag}
			node := New(l.options())
			_, err = node.Ensure(inv)
			l.ok(err)
			node.indexes["kept"] = 1 // a list replaces all of them
			_, err = node.Ensure(inv)
			l.ok(err)
			if _, kept := node.indexes["kept"]; kept == want {
				t.Errorf("with the tag %s: got a list: %v, want %v", tag, !kept, want)
			}
		})
	}
}

// Somebody else set up the third ENI, with the default priority of ip for his rules: everything of it stays.
func TestNode_Ensure_unmanaged(t *testing.T) {
	inLab(t, func(l *lab) {
		l.ok(l.sysctl("ip_forward", "1"))
		link, err := netlink.LinkByName("eth2")
		l.ok(err)
		l.ok(l.up("eth2"))
		for _, ip := range []string{"10.0.2.10", "10.0.2.20"} {
			l.ok(l.address("eth2", ip+"/24"))
			rule := netlink.NewRule()
			rule.Priority, rule.Table = 32765, 77
			rule.Src = &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(32, 32)}
			l.ok(netlink.RuleAdd(rule))
		}
		l.ok(netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(10, 0, 2, 1), Table: 77}))
		l.ok(netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(10, 0, 2, 1), Priority: 100}))
		inv := inventory()
		inv.ENIs[2].Tags = map[string]string{cloud.NoManageTag: "true"}
		inv.ENIs[2].Secondary = []netip.Addr{netip.MustParseAddr("10.0.2.20")}
		for range 2 {
			result, err := New(l.options()).Ensure(inv)
			l.ok(err)
			if len(result.Unusable) != 0 {
				t.Errorf("got unusable %v, want none", result.Unusable)
			}
			l.same("rules", l.rules(), rulesBefore+"\n1024: from all fwmark 0x80/0x80 lookup main\n"+
				"1025: not from all to 10.0.0.0/16 lookup main\n32765: from 10.0.2.10 lookup 77\n32765: from 10.0.2.20 lookup 77\n"+
				"32765: from 10.0.1.10 lookup 2\n"+rulesAfter)
			l.same("routes", l.routes(), "10.0.0.0/24 dev eth0\n10.0.1.1 dev eth1 table 2\n10.0.2.0/24 dev eth2\n"+
				"default via 10.0.0.1 dev eth0\ndefault via 10.0.1.1 dev eth1 table 2\n"+
				"default via 10.0.2.1 dev eth2\ndefault via 10.0.2.1 dev eth2 table 77")
			l.same("addresses", l.addresses(), "eth0 mtu 1400 10.0.0.10/24\neth1 mtu 1400 10.0.1.10/24\n"+
				"eth2 mtu 1500 10.0.2.10/24 10.0.2.20/24")
		}
	})
}

func TestNode_Ensure_sysctls(t *testing.T) {
	for _, tt := range []struct {
		all, own  string
		nodePorts bool
		want      string
	}{
		{"0", "0", true, "0"},
		{"1", "0", true, "1"},
		{"0", "1", true, "1"},
		{"2", "1", true, "0"},
		{"1", "2", true, "0"},
		{"1", "1", false, "0"},
	} {
		t.Run(fmt.Sprintf("all %s own %s node ports %v", tt.all, tt.own, tt.nodePorts), func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.ok(l.sysctl("ip_forward", "0"))
				l.ok(l.sysctl("conf/all/rp_filter", tt.all))
				l.ok(l.sysctl("conf/eth0/rp_filter", tt.own))
				opts := l.options()
				opts.NodePorts = tt.nodePorts
				l.ensure(opts, "net.ipv4.ip_forward is 0: pods can reach their own node only")
				if got, err := l.node.Sysctl("ipv4", "eth0", "src_valid_mark"); got != tt.want || err != nil {
					t.Errorf("got src_valid_mark %s, %v, want %s", got, err, tt.want)
				}
			})
		})
	}
}

// If the setting cannot be changed, as in a container with a read-only /proc/sys, a warning says what does not work.
func TestNode_Ensure_readOnlySysctls(t *testing.T) {
	inLab(t, func(l *lab) {
		l.ok(l.sysctl("ip_forward", "1"))
		l.ok(l.sysctl("conf/all/rp_filter", "1"))
		// The mount namespace belongs to this thread only and ends with it.
		l.ok(unix.Unshare(unix.CLONE_NEWNS))
		l.ok(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		l.ok(unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
		l.ok(unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		l.ensure(l.options(), "rp_filter of eth0 is strict and src_valid_mark cannot be set (open "+
			"/proc/sys/net/ipv4/conf/eth0/src_valid_mark: "+
			"read-only file system): node ports do not work for pods on secondary ENIs")
		opts := l.options()
		opts.NodePorts = false
		l.ensure(opts)
	})
}
