package snapshot

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// undo reverts changes one by one. It checks that each reverts only its own change, and that a second attempt finds
// nothing.
func undo(tb testing.TB, before State, changes []Change, opts Options) {
	tb.Helper()
	if len(changes) == 0 {
		tb.Fatal("got no change to revert")
	}
	for _, c := range changes {
		earlier := take(tb, opts)
		check(tb, Revert(context.Background(), c, opts))
		want := []string{essenceOf(inverse(c))}
		var got []string
		for _, d := range Diff(earlier, take(tb, opts)) {
			got = append(got, essenceOf(d))
		}
		if diff := gocmp.Diff(got, want); diff != "" {
			tb.Errorf("after reverting %s (-got +want):\n%s", c, diff)
		}
	}
	if got := Diff(before, take(tb, opts)); got != nil {
		tb.Errorf("got %q after reverting all, want no change", lines(got))
	}
	for _, c := range changes {
		if err := Revert(context.Background(), c, opts); !errors.Is(err, ErrGone) {
			tb.Errorf("%s, again: got error %v, want %v", c, err, ErrGone)
		}
	}
}

// inverse returns the change that is seen when a change is undone.
func inverse(c Change) Change {
	if c.Op == Changed {
		c.Item.Text, c.Before = c.Before, c.Item.Text
		return c
	}
	return Change{Op: Removed, Item: c.Item}
}

// essenceOf returns a change without the parts that ignored names.
func essenceOf(c Change) string {
	earlier := c.Item
	earlier.Text = c.Before
	return c.Op + " " + c.Item.Scope + " " + c.Item.Kind + " " + essence(earlier) + " -> " + essence(c.Item)
}

// innermost orders changes so that each can be undone separately: content and users of an object come before it.
func innermost(changes []Change) []Change {
	order := []string{Address, Route, Rule, Neighbour, Qdisc, Nftables, Sysctl, Link}
	within := []string{"rule", "element", "set", "object", "chain", "table"}
	rank := func(c Change) int {
		first, _, _ := strings.Cut(c.Item.Name, " ")
		return 10*slices.Index(order, c.Item.Kind) + slices.Index(within, first)
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(rank(a), rank(b)) })
	return changes
}

func TestRevert(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(testing.TB)
		// want is the number of changes to revert.
		want int
	}{
		{"link with an address", func(tb testing.TB) {
			addMacvlan(tb, "eno1.host", "02:00:00:00:00:02", "eno1")
			check(tb, netlink.AddrAdd(link(tb, "eno1.host"), address(tb, "10.0.0.1/24")))
			check(tb, netlink.LinkSetUp(link(tb, "eno1.host")))
		}, 2},
		{"addresses", func(tb testing.TB) {
			for _, cidr := range []string{"10.0.0.9/24", "10.0.0.2/24", "10.0.0.2/32", "fd00::1/64", "fd00::2/128"} {
				check(tb, netlink.AddrAdd(link(tb, "eno1"), address(tb, cidr)))
			}
			peer := address(tb, "10.1.0.1/32")
			peer.Peer = prefix(tb, "10.1.0.2/32")
			check(tb, netlink.AddrAdd(link(tb, "eno1"), peer))
		}, 6},
		{"routes", func(tb testing.TB) {
			for _, r := range routes(tb) {
				check(tb, netlink.RouteAdd(&r))
			}
		}, 13},
		{"routes of a link that lost its carrier", func(tb testing.TB) {
			for _, r := range routes(tb) {
				check(tb, netlink.RouteAdd(&r))
			}
			check(tb, netlink.LinkSetDown(link(tb, "wire")))
			eventually(tb, "want eno1 to lose its carrier", func() bool {
				return link(tb, "eno1").Attrs().OperState == netlink.OperLowerLayerDown
			})
		}, 14},
		{"rules", addRules, 8},
		{"neighbours", func(tb testing.TB) {
			for _, n := range append(neighbours(tb), &netlink.Neigh{
				LinkIndex: link(tb, "eno1").Attrs().Index, Family: netlink.FAMILY_V4, Flags: netlink.NTF_PROXY,
				IP: prefix(tb, "192.168.0.9/32").IP,
			}) {
				check(tb, netlink.NeighAdd(n))
			}
		}, 3},
		{"qdisc in the kernel's place", func(tb testing.TB) {
			check(tb, netlink.QdiscAdd(&netlink.Tbf{
				QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link(tb, "eno1").Attrs().Index, Parent: netlink.HANDLE_ROOT},
				Rate:       125000, Limit: 100000, Buffer: 1000000,
			}))
		}, 1},
		{"qdisc with filters", addFilters, 3},
		{"classes", addClasses, 3},
		{"sysctls", func(tb testing.TB) {
			write(tb, "/proc/sys/net/ipv4/conf/eno1/rp_filter", "2")
			// A value that was empty, and one of several numbers.
			write(tb, "/proc/sys/net/ipv4/ip_local_reserved_ports", "8080")
			write(tb, "/proc/sys/net/ipv4/ping_group_range", "0 5")
		}, 3},
		{"sysctl of a link with a dot", func(tb testing.TB) { write(tb, "/proc/sys/net/ipv4/conf/eno1.7/proxy_arp", "1") }, 1},
		{"link down", func(tb testing.TB) { check(tb, netlink.LinkSetDown(link(tb, "spare"))) }, 1},
		{"link up", func(tb testing.TB) { check(tb, netlink.LinkSetUp(link(tb, "cni0"))) }, 1},
		{"link into a bridge", func(tb testing.TB) { check(tb, netlink.LinkSetMaster(link(tb, "spare"), link(tb, "cni0"))) }, 1},
		{"link out of a bridge", func(tb testing.TB) { check(tb, netlink.LinkSetNoMaster(link(tb, "port"))) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			isolateNode(t)
			addMacvlan(t, "eno1.7", "02:00:00:00:00:07", "eno1")
			check(t, netlink.LinkSetUp(link(t, "eno1.7")))
			addVeth(t, "spare", "02:00:00:00:00:05", "port")
			check(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes(t, "cni0", "02:00:00:00:00:03")}))
			check(t, netlink.LinkSetMaster(link(t, "port"), link(t, "cni0")))
			// From the first time that it goes up a link keeps its qdisc.
			for _, up := range []string{"spare", "port", "cni0"} {
				check(t, netlink.LinkSetUp(link(t, up)))
			}
			check(t, netlink.LinkSetDown(link(t, "cni0")))
			write(t, "/proc/sys/net/ipv4/conf/eno1/rp_filter", "0")
			opts := Options{Kinds: networkKinds}
			before := take(t, opts)
			tt.change(t)
			changes := innermost(Diff(before, take(t, opts)))
			if len(changes) != tt.want {
				t.Errorf("got %d changes %q, want %d", len(changes), lines(changes), tt.want)
			}
			undo(t, before, changes, opts)
		})
	}
}

// routes returns routes that differ in single properties.
func routes(tb testing.TB) []netlink.Route {
	tb.Helper()
	index := link(tb, "eno1").Attrs().Index
	to := prefix(tb, "10.0.0.0/24")
	to6 := prefix(tb, "fd00::/64")
	gw, gw6 := prefix(tb, "192.168.0.254/32").IP, prefix(tb, "fe80::1/128").IP
	other := prefix(tb, "192.168.0.253/32").IP
	return []netlink.Route{
		{LinkIndex: index, Dst: to, Gw: gw},
		{LinkIndex: index, Dst: to, Gw: gw, Priority: 50},
		{LinkIndex: index, Dst: to, Gw: other, Priority: 60, MTU: 1400},
		{LinkIndex: index, Dst: to, Gw: gw, Tos: 0x10},
		{LinkIndex: index, Dst: to, Gw: gw, Table: 1000},
		{LinkIndex: index, Dst: prefix(tb, "0.0.0.0/0"), Gw: gw, Table: 100, Protocol: unix.RTPROT_STATIC, Flags: unix.RTNH_F_ONLINK},
		{LinkIndex: index, Dst: prefix(tb, "192.168.0.9/32"), Scope: netlink.SCOPE_LINK, Src: prefix(tb, "192.168.0.1/32").IP},
		{Dst: prefix(tb, "10.8.0.0/16"), MultiPath: []*netlink.NexthopInfo{{LinkIndex: index, Gw: gw}, {LinkIndex: index, Gw: other, Hops: 2}}},
		{Dst: prefix(tb, "10.9.0.0/16"), Type: unix.RTN_BLACKHOLE},
		{LinkIndex: index, Dst: to6, Gw: gw6},
		{LinkIndex: index, Dst: to6, Gw: gw6, Priority: 50},
		{LinkIndex: index, Dst: prefix(tb, "::/0"), Gw: gw6, Table: 100},
		{Dst: prefix(tb, "fd09::/64"), Type: unix.RTN_UNREACHABLE},
	}
}

// addRules adds rules of one priority, more specific ones after less specific ones: a request for the former must not
// match the latter.
func addRules(tb testing.TB) {
	tb.Helper()
	for _, fill := range []func(*netlink.Rule){
		func(r *netlink.Rule) { r.Table = 100 },
		func(r *netlink.Rule) { r.Table = 1000 },
		func(r *netlink.Rule) { r.Mark, r.Table = 0x80, 100 },
		func(r *netlink.Rule) { r.Src, r.Table = prefix(tb, "10.0.0.0/8"), 100 },
		func(r *netlink.Rule) {
			r.Src, r.IifName, r.Table, r.Protocol = prefix(tb, "10.0.0.0/8"), "eno1", 100, unix.RTPROT_STATIC
		},
		func(r *netlink.Rule) { r.Src, r.Type = prefix(tb, "10.9.0.0/16"), unix.RTN_BLACKHOLE },
		func(r *netlink.Rule) { r.Family, r.Table = netlink.FAMILY_V6, 100 },
		func(r *netlink.Rule) { r.Family, r.Src, r.Table = netlink.FAMILY_V6, prefix(tb, "fd00::/64"), 100 },
	} {
		rule := netlink.NewRule()
		rule.Family, rule.Priority = netlink.FAMILY_V4, 500
		fill(rule)
		check(tb, netlink.RuleAdd(rule))
	}
}

// addFilters adds two filters of the same preference for incoming packets.
func addFilters(tb testing.TB) {
	tb.Helper()
	index := link(tb, "eno1").Attrs().Index
	check(tb, netlink.QdiscAdd(&netlink.Ingress{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_INGRESS},
	}))
	for _, value := range []uint32{0x0a000000, 0x0b000000} {
		check(tb, netlink.FilterAdd(&netlink.U32{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_IP,
			},
			Sel: &netlink.TcU32Sel{
				Nkeys: 1, Flags: netlink.TC_U32_TERMINAL,
				Keys: []netlink.TcU32Key{{Mask: 0xff000000, Val: value, Off: 12}},
			},
			Actions: []netlink.Action{netlink.NewMirredAction(link(tb, "wire").Attrs().Index)},
		}))
	}
}

// addClasses adds two classes; their qdisc replaces the kernel's.
func addClasses(tb testing.TB) {
	tb.Helper()
	index := link(tb, "eno1").Attrs().Index
	check(tb, netlink.QdiscAdd(netlink.NewHtb(netlink.QdiscAttrs{
		LinkIndex: index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0),
	})))
	for minor := range uint16(2) {
		check(tb, netlink.ClassAdd(netlink.NewHtbClass(
			netlink.ClassAttrs{LinkIndex: index, Parent: netlink.MakeHandle(1, 0), Handle: netlink.MakeHandle(1, minor+1)},
			netlink.HtbClassAttrs{Rate: 1000000},
		)))
	}
}

func TestRevert_settings(t *testing.T) {
	isolate(t)
	addVeth(t, "eth0", "02:00:00:00:00:05", "peer")
	check(t, netlink.LinkSetUp(link(t, "eth0")))
	// The MTU is a sysctl too.
	opts := Options{Kinds: []string{Link}}
	before := take(t, opts)
	check(t, netlink.LinkSetMTU(link(t, "eth0"), 1400))
	check(t, netlink.LinkSetHardwareAddr(link(t, "eth0"), parseMAC(t, "02:00:00:00:00:08")))
	check(t, netlink.SetPromiscOn(link(t, "eth0")))
	check(t, netlink.LinkSetAllmulticastOn(link(t, "eth0")))
	check(t, netlink.LinkSetARPOff(link(t, "eth0")))
	check(t, netlink.LinkSetMulticastOff(link(t, "eth0")))
	check(t, netlink.LinkSetAlias(link(t, "eth0"), `up "link"`))
	check(t, netlink.LinkSetGroup(link(t, "eth0"), 3))
	check(t, netlink.LinkSetTxQLen(link(t, "eth0"), 7))
	check(t, netlink.LinkSetDown(link(t, "eth0")))
	there := take(t, opts)
	changes := Diff(before, there)
	undo(t, before, changes, opts)
	// Then in the other direction.
	undo(t, there, Diff(there, take(t, opts)), opts)
}

func TestRevert_linkTakesAlong(t *testing.T) {
	isolateNode(t)
	opts := Options{Kinds: networkKinds}
	before := take(t, opts)
	addVeth(t, "one", "02:00:00:00:00:05", "other")
	check(t, netlink.AddrAdd(link(t, "one"), address(t, "10.0.0.1/24")))
	check(t, netlink.LinkSetUp(link(t, "one")))
	changes := Diff(before, take(t, opts))
	at := slices.IndexFunc(changes, func(c Change) bool { return c.Item.Kind == Link && c.Item.Name == "one" })
	check(t, netlink.LinkSetHardwareAddr(link(t, "one"), parseMAC(t, "02:00:00:00:00:06")))
	check(t, Revert(t.Context(), changes[at], opts))
	if got := Diff(before, take(t, opts)); got != nil {
		t.Errorf("got %q, want no change", lines(got))
	}
}

func TestRevert_neighbourByName(t *testing.T) {
	isolateNode(t)
	opts := Options{Kinds: []string{Neighbour}}
	before := take(t, opts)
	entry := neighbours(t)[0]
	check(t, netlink.NeighAdd(entry))
	changes := Diff(before, take(t, opts))
	entry.HardwareAddr = parseMAC(t, "02:00:00:00:00:0a")
	check(t, netlink.NeighSet(entry))
	check(t, Revert(t.Context(), changes[0], opts))
	if got := Diff(before, take(t, opts)); got != nil {
		t.Errorf("got %q, want no change", lines(got))
	}
}

func TestRevertPod(t *testing.T) {
	isolate(t)
	p := startPod(t)
	opts := Options{Namespaces: map[string]string{"pod/server": p.path}, Kinds: []string{Link, Sysctl, Nftables}}
	before := take(t, opts)
	p.do(func() {
		write(t, "/proc/sys/net/ipv4/ip_default_ttl", "77")
		check(t, netlink.LinkSetUp(link(t, "lo")))
		addVeth(t, "eth0", "02:00:00:00:00:05", "eth1")
		filter(t, 1)
	})
	changes := slices.DeleteFunc(Diff(before, take(t, opts)), func(c Change) bool {
		return c.Item.Kind == Link && c.Item.Name == "eth1"
	})
	for _, c := range innermost(changes) {
		check(t, Revert(t.Context(), c, opts))
	}
	if got := Diff(before, take(t, opts)); got != nil {
		t.Errorf("got %q, want no change", lines(got))
	}
	for _, tt := range []struct{ name, path, want string }{
		{"no namespace any more", "/proc/self/ns/absent", "revert pod/server link lo: not there any more as the change left it"},
		{"unknown scope", "", `revert pod/server link lo: scope "pod/server": want the path of its namespace`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opts := Options{Namespaces: map[string]string{}}
			if tt.path != "" {
				opts.Namespaces["pod/server"] = tt.path
			}
			err := Revert(t.Context(), Change{Op: Added, Item: Item{Scope: "pod/server", Kind: Link, Name: "lo"}}, opts)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got error %v, want %s", err, tt.want)
			}
		})
	}
	p.end()
}

func TestRevertMounts(t *testing.T) {
	isolate(t)
	dir := filepath.Join(t.TempDir(), "with space")
	check(t, os.Mkdir(dir, 0o700))
	opts := Options{Kinds: []string{Mount}}
	before := take(t, opts)
	// Two are equal, and a different one is between them.
	for _, flags := range []uintptr{0, unix.MS_NOSUID, 0} {
		check(t, unix.Mount("scratch", dir, "tmpfs", flags, "size=64k"))
	}
	changes := Diff(before, take(t, opts))
	covered := slices.IndexFunc(changes, func(c Change) bool { return strings.Contains(c.Item.Text, "nosuid") })
	err := Revert(t.Context(), changes[covered], opts)
	want := "revert mount " + strings.ReplaceAll(dir, " ", `\040`) + ": another mount covers it"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	changes[covered], changes[1] = changes[1], changes[covered]
	undo(t, before, changes, opts)
}

func TestRevertFiles(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	opts := Options{Kinds: []string{File}, Files: []FileTree{{Name: dir, FS: os.DirFS(dir)}}}
	before := take(t, opts)
	check(t, os.Mkdir(filepath.Join(dir, "ipam"), 0o700))
	write(t, filepath.Join(dir, "ipam/10.0.0.1"), "c eth0")
	check(t, os.Symlink("10.0.0.1", filepath.Join(dir, "ipam/last")))
	changes := Diff(before, take(t, opts))
	err := Revert(t.Context(), changes[0], opts)
	if want := "revert file " + dir + "/ipam: remove " + dir + "/ipam: directory not empty"; err == nil ||
		err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	write(t, filepath.Join(dir, "ipam/10.0.0.1"), "another eth0")
	if err := Revert(t.Context(), changes[1], opts); !errors.Is(err, ErrGone) {
		t.Errorf("file with other content: got error %v, want %v", err, ErrGone)
	}
	write(t, filepath.Join(dir, "ipam/10.0.0.1"), "c eth0")
	slices.Reverse(changes)
	undo(t, before, changes, opts)
}
