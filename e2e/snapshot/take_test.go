package snapshot

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// networkKinds are all kinds of a network namespace, so that consequences of a change in other kinds are seen too.
var networkKinds = KindsThat(func(k Kind) bool { return k.Network })

func TestTake(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(testing.TB)
		undo   func(testing.TB)
		want   []string
	}{
		{
			name:   "link added",
			change: func(tb testing.TB) { addMacvlan(tb, "eno1.host", "02:00:00:00:00:02", "eno1") },
			undo:   func(tb testing.TB) { check(tb, netlink.LinkDel(link(tb, "eno1.host"))) },
			want: []string{
				"+ link eno1.host: <BROADCAST,MULTICAST> mtu 1500 state DOWN group 0 qlen 1000 link/ether 02:00:00:00:00:02 parent eno1 macvlan mode bridge",
			},
		},
		{
			name: "link of the host changed",
			change: func(tb testing.TB) {
				check(tb, netlink.LinkSetMTU(link(tb, "eno1"), 1400))
				check(tb, netlink.SetPromiscOn(link(tb, "eno1")))
				check(tb, netlink.LinkSetAlias(link(tb, "eno1"), "uplink"))
			},
			undo: func(tb testing.TB) {
				check(tb, netlink.LinkSetMTU(link(tb, "eno1"), 1500))
				check(tb, netlink.SetPromiscOff(link(tb, "eno1")))
				check(tb, netlink.LinkSetAlias(link(tb, "eno1"), ""))
			},
			want: []string{
				"~ link eno1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP group 0 qlen 1000 link/ether " +
					"02:00:00:00:00:01 parent wire veth -> " +
					"<BROADCAST,MULTICAST,PROMISC,UP,LOWER_UP> mtu 1400 state UP group 0 qlen 1000 link/ether " +
					"02:00:00:00:00:01 parent wire promiscuity 1 veth " +
					`alias "uplink"`,
				"~ sysctl net.ipv6.conf.eno1.mtu: 1500 -> 1400",
			},
		},
		{
			name: "mode by which new links make addresses",
			change: func(tb testing.TB) {
				write(tb, "/proc/sys/net/ipv6/conf/default/addr_gen_mode", "3")
			},
			undo: func(tb testing.TB) { write(tb, "/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1") },
			want: []string{"~ sysctl net.ipv6.conf.default.addr_gen_mode: 1 -> 3"},
		},
		{
			name: "link into a bridge",
			change: func(tb testing.TB) {
				check(tb, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes(tb, "cni0", "02:00:00:00:00:03")}))
				check(tb, netlink.LinkSetMaster(link(tb, "eno1"), link(tb, "cni0")))
			},
			undo: func(tb testing.TB) { check(tb, netlink.LinkDel(link(tb, "cni0"))) },
			want: []string{
				"+ link cni0: <BROADCAST,MULTICAST> mtu 1500 state DOWN group 0 qlen 1000 link/ether 02:00:00:00:00:03 bridge vlan_filtering false mcast_snooping true",
				"~ link eno1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP group 0 qlen 1000 link/ether " +
					"02:00:00:00:00:01 parent wire veth -> " +
					"<BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 master cni0 state UP group 0 qlen 1000 link/ether 02:00:00:00:00:01 parent wire promiscuity 1 veth",
			},
		},
		{
			name:   "address with the routes that the kernel makes",
			change: func(tb testing.TB) { check(tb, netlink.AddrAdd(link(tb, "eno1"), address(tb, "10.0.0.1/24"))) },
			undo:   func(tb testing.TB) { check(tb, netlink.AddrDel(link(tb, "eno1"), address(tb, "10.0.0.1/24"))) },
			want:   []string{"+ address 10.0.0.1/24 dev eno1: inet brd 10.0.0.255 scope global label eno1"},
		},
		{
			name: "IPv6 address",
			change: func(tb testing.TB) {
				a := address(tb, "fd00::1/64")
				a.Flags = unix.IFA_F_NODAD
				check(tb, netlink.AddrAdd(link(tb, "eno1"), a))
			},
			undo: func(tb testing.TB) { check(tb, netlink.AddrDel(link(tb, "eno1"), address(tb, "fd00::1/64"))) },
			want: []string{"+ address fd00::1/64 dev eno1: inet6 scope global nodad"},
		},
		{
			name: "address removed",
			change: func(tb testing.TB) {
				check(tb, netlink.AddrDel(link(tb, "eno1"), address(tb, "192.168.0.1/16")))
			},
			undo: func(tb testing.TB) { check(tb, netlink.AddrAdd(link(tb, "eno1"), address(tb, "192.168.0.1/16"))) },
			want: []string{"- address 192.168.0.1/16 dev eno1: inet brd 192.168.255.255 scope global label eno1"},
		},
		routeCase("host route", "+ route 192.168.0.9/32 table main: dev eno1 proto boot scope link src 192.168.0.1",
			func(tb testing.TB) netlink.Route {
				return netlink.Route{
					LinkIndex: link(tb, "eno1").Attrs().Index, Dst: prefix(tb, "192.168.0.9/32"),
					Scope: netlink.SCOPE_LINK, Src: prefix(tb, "192.168.0.1/32").IP,
				}
			}),
		routeCase("default route in another table", "+ route default table 100 metric 7: via 192.168.0.254 dev eno1 "+
			"onlink proto static scope global mtu 1400",
			func(tb testing.TB) netlink.Route {
				return netlink.Route{
					LinkIndex: link(tb, "eno1").Attrs().Index, Gw: prefix(tb, "192.168.0.254/32").IP,
					Dst: prefix(tb, "0.0.0.0/0"), Table: 100, Priority: 7,
					Flags: unix.RTNH_F_ONLINK, Protocol: unix.RTPROT_STATIC, MTU: 1400,
				}
			}),
		routeCase("IPv6 default route", "+ route ::/0 table main metric 1024 dev eno1: via fd00::fe onlink proto "+
			"boot scope global", func(tb testing.TB) netlink.Route {
			return netlink.Route{
				LinkIndex: link(tb, "eno1").Attrs().Index, Gw: prefix(tb, "fd00::fe/128").IP, Flags: unix.RTNH_F_ONLINK,
			}
		}),
		routeCase("multipath route", "+ route 10.0.0.0/8 table main: nexthop via 192.168.0.2 dev eno1 weight 1 "+
			"nexthop via 192.168.0.3 dev eno1 weight 3 proto boot scope global",
			func(tb testing.TB) netlink.Route {
				index := link(tb, "eno1").Attrs().Index
				return netlink.Route{Dst: prefix(tb, "10.0.0.0/8"), MultiPath: []*netlink.NexthopInfo{
					{LinkIndex: index, Gw: prefix(tb, "192.168.0.2/32").IP},
					{LinkIndex: index, Gw: prefix(tb, "192.168.0.3/32").IP, Hops: 2},
				}}
			}),
		routeCase("blackhole", "+ route blackhole 10.9.0.0/16 table main: proto boot scope global",
			func(tb testing.TB) netlink.Route {
				return netlink.Route{Dst: prefix(tb, "10.9.0.0/16"), Type: unix.RTN_BLACKHOLE}
			}),
		{
			name: "connected route removed by hand",
			change: func(tb testing.TB) {
				check(tb, netlink.RouteDel(&netlink.Route{
					LinkIndex: link(tb, "eno1").Attrs().Index,
					Dst:       prefix(tb, "192.168.0.0/16"), Scope: netlink.SCOPE_LINK,
				}))
			},
			undo: func(tb testing.TB) {
				check(tb, netlink.RouteAdd(&netlink.Route{
					LinkIndex: link(tb, "eno1").Attrs().Index, Dst: prefix(tb, "192.168.0.0/16"),
					Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_KERNEL,
					Src: prefix(tb, "192.168.0.1/32").IP,
				}))
			},
			want: []string{"- route 192.168.0.0/16 table main: dev eno1 proto kernel scope link src 192.168.0.1"},
		},
		ruleCase("rule of a mark", "+ rule inet 500: from 10.0.0.0/8 fwmark 0x80 /0xff iif eno1 lookup 100 proto "+
			"unspec", func(tb testing.TB, r *netlink.Rule) {
			mask := uint32(0xff)
			r.Family, r.Priority, r.Src, r.Mark, r.Mask, r.IifName, r.Table = netlink.FAMILY_V4, 500,
				prefix(tb, "10.0.0.0/8"), 0x80, &mask, "eno1", 100
		}),
		ruleCase("IPv6 rule", "+ rule inet6 501: from all to fd00::/64 lookup main suppress_prefixlength 0 proto "+
			"unspec", func(tb testing.TB, r *netlink.Rule) {
			r.Family, r.Priority, r.Dst, r.Table, r.SuppressPrefixlen = netlink.FAMILY_V6, 501, prefix(tb, "fd00::/64"),
				unix.RT_TABLE_MAIN, 0
		}),
		{
			name: "permanent neighbours and a proxy",
			change: func(tb testing.TB) {
				for _, n := range neighbours(tb) {
					check(tb, netlink.NeighAdd(n))
				}
			},
			undo: func(tb testing.TB) {
				for _, n := range neighbours(tb) {
					check(tb, netlink.NeighDel(n))
				}
			},
			want: []string{
				"+ neighbour 192.168.0.9 dev eno1: lladdr 02:00:00:00:00:09 PERMANENT",
				"+ neighbour fd00::9 dev eno1: proxy",
			},
		},
		{
			name: "qdiscs with a filter",
			change: func(tb testing.TB) {
				index := link(tb, "eno1").Attrs().Index
				check(tb, netlink.QdiscAdd(&netlink.Tbf{
					QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_ROOT}, Rate: 125000,
					Limit: 100000, Buffer: 1000000,
				}))
				check(tb, netlink.QdiscAdd(&netlink.Ingress{
					QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_INGRESS},
				}))
				check(tb, netlink.FilterAdd(&netlink.U32{
					FilterAttrs: netlink.FilterAttrs{
						LinkIndex: index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL,
					},
					Actions: []netlink.Action{netlink.NewMirredAction(link(tb, "wire").Attrs().Index)},
				}))
			},
			undo: func(tb testing.TB) {
				index := link(tb, "eno1").Attrs().Index
				check(tb, netlink.QdiscDel(&netlink.Tbf{
					QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_ROOT},
				}))
				check(tb, netlink.QdiscDel(&netlink.Ingress{
					QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_INGRESS},
				}))
			},
			want: []string{
				"+ qdisc dev eno1 filter parent ffff:0 protocol 0x3 pref 1: u32 match 00000000/00000000 at 0 action mirred egress redir dev wire",
				"+ qdisc dev eno1 ingress: ingress handle ffff:0",
				"~ qdisc dev eno1 root: noqueue -> tbf handle auto:0 rate 125000 limit 100000 buffer 1000000 peakrate 0 minburst 0",
			},
		},
		{
			name:   "sysctl",
			change: func(tb testing.TB) { write(tb, "/proc/sys/net/ipv4/conf/eno1/rp_filter", "2") },
			undo:   func(tb testing.TB) { write(tb, "/proc/sys/net/ipv4/conf/eno1/rp_filter", "0") },
			want:   []string{"~ sysctl net.ipv4.conf.eno1.rp_filter: 0 -> 2"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			isolateNode(t)
			write(t, "/proc/sys/net/ipv4/conf/eno1/rp_filter", "0")
			opts := Options{Kinds: networkKinds}
			before := take(t, opts)
			tt.change(t)
			if diff := cmp.Diff(lines(Diff(before, take(t, opts))), tt.want); diff != "" {
				t.Errorf("changes (-got +want):\n%s", diff)
			}
			tt.undo(t)
			if got := Diff(before, take(t, opts)); got != nil {
				t.Errorf("got %q after undoing, want no change", lines(got))
			}
		})
	}
}

// change is a case of TestTake.
type change = struct {
	name   string
	change func(testing.TB)
	undo   func(testing.TB)
	want   []string
}

func routeCase(name, want string, route func(testing.TB) netlink.Route) change {
	return change{
		name: name,
		change: func(tb testing.TB) {
			r := route(tb)
			check(tb, netlink.RouteAdd(&r))
		},
		undo: func(tb testing.TB) {
			r := route(tb)
			check(tb, netlink.RouteDel(&r))
		},
		want: []string{want},
	}
}

func ruleCase(name, want string, fill func(testing.TB, *netlink.Rule)) change {
	rule := func(tb testing.TB) *netlink.Rule {
		r := netlink.NewRule()
		fill(tb, r)
		return r
	}
	return change{
		name:   name,
		change: func(tb testing.TB) { check(tb, netlink.RuleAdd(rule(tb))) },
		undo:   func(tb testing.TB) { check(tb, netlink.RuleDel(rule(tb))) },
		want:   []string{want},
	}
}

func neighbours(tb testing.TB) []*netlink.Neigh {
	index := link(tb, "eno1").Attrs().Index
	return []*netlink.Neigh{
		{
			LinkIndex: index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
			IP:           prefix(tb, "192.168.0.9/32").IP,
			HardwareAddr: parseMAC(tb, "02:00:00:00:00:09"),
		},
		{LinkIndex: index, Family: netlink.FAMILY_V6, Flags: netlink.NTF_PROXY, IP: prefix(tb, "fd00::9/128").IP},
	}
}

func TestTakeMounts(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	opts := Options{Kinds: []string{Mount}}
	before := take(t, opts)
	check(t, unix.Mount("scratch", dir, "tmpfs", unix.MS_NOSUID, "size=64k"))
	file := filepath.Join(dir, "net")
	write(t, file, "")
	check(t, unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, ""))
	want := []string{
		"+ mount " + dir + ": tmpfs scratch rw,nosuid,relatime rw,size=64k",
		"+ mount " + file + ": nsfs nsfs root net rw rw",
	}
	got := lines(Diff(before, take(t, opts)))
	for i := range got {
		// In a user namespace the owner of the tmpfs is unknown in the initial namespace.
		got[i] = strings.TrimSuffix(got[i], ",uid=65534,gid=65534")
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("changes (-got +want):\n%s", diff)
	}
	check(t, unix.Unmount(file, 0))
	check(t, unix.Unmount(dir, 0))
	if got := Diff(before, take(t, opts)); got != nil {
		t.Errorf("got %q after undoing, want no change", lines(got))
	}
}

func TestTakeFiles(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.Chmod(dir, 0o755))
	write(t, in("kept"), "same")
	write(t, in("edited"), "old")
	opts := Options{
		Kinds: []string{File},
		Files: []FileTree{{Name: "/run/cni", FS: os.DirFS(dir)}, {Name: "/absent", FS: os.DirFS(in("absent"))}},
	}
	before := take(t, opts)
	write(t, in("edited"), "new")
	check(t, os.Mkdir(in("route"), 0o700))
	check(t, os.Symlink("../kept", in("route/link")))
	check(t, unix.Mknod(in("gone"), unix.S_IFCHR, 0))
	check(t, unix.Mkfifo(in("route/fifo"), 0o600))
	check(t, os.Truncate(create(t, in("large")), maxHashed+1))
	check(t, os.Chmod(in("large"), 0o600))
	check(t, unix.Utimes(in("large"), []unix.Timeval{{Sec: 1}, {Sec: 1}}))
	want := []string{
		"~ file /run/cni/edited: -rw-r--r-- 0 0 3 " +
			"sha256:cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4 -> " +
			"-rw-r--r-- 0 0 3 sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437",
		"+ file /run/cni/gone: deleted",
		"+ file /run/cni/large: -rw------- 0 0 1048577 1970-01-01T00:00:01Z",
		"+ file /run/cni/route: drwx------ 0 0",
		"+ file /run/cni/route/fifo: prw------- 0 0",
		"+ file /run/cni/route/link: Lrwxrwxrwx 0 0 -> ../kept",
	}
	if diff := cmp.Diff(lines(Diff(before, take(t, opts))), want); diff != "" {
		t.Errorf("changes (-got +want):\n%s", diff)
	}
	for _, name := range []string{"gone", "large", "route"} {
		check(t, os.RemoveAll(in(name)))
	}
	write(t, in("edited"), "old")
	if got := Diff(before, take(t, opts)); got != nil {
		t.Errorf("got %q after undoing, want no change", lines(got))
	}
}

func create(tb testing.TB, path string) string {
	tb.Helper()
	write(tb, path, "")
	return path
}

func TestTakePods(t *testing.T) {
	isolate(t)
	p := startPod(t)
	opts := Options{Namespaces: map[string]string{"pod/server": p.path}, Kinds: []string{Link, Sysctl}}
	before := take(t, opts)
	p.do(func() {
		// Both only in the pod: the node's lo is up, and its value differs.
		write(t, "/proc/sys/net/ipv4/ip_default_ttl", "77")
		check(t, netlink.LinkSetUp(link(t, "lo")))
	})
	addVeth(t, "host0", "02:00:00:00:00:05", "eth0")
	namespace, err := os.Open(p.path)
	check(t, err)
	defer namespace.Close()
	check(t, netlink.LinkSetNsFd(link(t, "eth0"), int(namespace.Fd())))
	want := []string{
		"+ link host0: <BROADCAST,MULTICAST> mtu 1500 state DOWN group 0 qlen 1000 link/ether 02:00:00:00:00:05 parent in another namespace veth",
		"+ pod/server link eth0: <BROADCAST,MULTICAST> mtu 1500 state DOWN group 0 qlen 0 link/ether 02:00:00:00:00:ff parent in another namespace veth",
		"~ pod/server link lo: <LOOPBACK> mtu 65536 state DOWN group 0 qlen 1000 link/loopback -> <LOOPBACK,UP,LOWER_UP> mtu 65536 state UNKNOWN group 0 qlen 1000 link/loopback",
		"~ pod/server sysctl net.ipv4.ip_default_ttl: 64 -> 77",
	}
	after := take(t, opts)
	if diff := cmp.Diff(lines(Diff(before, after)), want); diff != "" {
		t.Errorf("changes (-got +want):\n%s", diff)
	}
	opts.Namespaces["pod/server"] = "/proc/self/ns/absent"
	gone := []string{"- pod/server namespace network"}
	if diff := cmp.Diff(lines(Diff(after, take(t, opts))), gone); diff != "" {
		t.Errorf("changes without the pod (-got +want):\n%s", diff)
	}
	opts.Namespaces["pod/server"] = create(t, filepath.Join(t.TempDir(), "plain"))
	if diff := cmp.Diff(lines(Diff(after, take(t, opts))), gone); diff != "" {
		t.Errorf("changes with a plain file in its place (-got +want):\n%s", diff)
	}
	p.end()
}

func TestTakeRestoresThreads(t *testing.T) {
	isolate(t)
	p := startPod(t)
	defer p.end()
	inode := func() uint64 {
		var stat syscall.Stat_t
		check(t, syscall.Stat("/proc/thread-self/ns/net", &stat))
		return stat.Ino
	}
	before := inode()
	for range 20 {
		take(t, Options{Namespaces: map[string]string{"a": p.path, "b": p.path}, Kinds: []string{Link}})
	}
	if got := inode(); got != before {
		t.Errorf("got namespace %d, want %d", got, before)
	}
}

// A secret cannot be removed, so it is set on a separate link.
func TestTake_secret(t *testing.T) {
	isolate(t)
	addVeth(t, "eno2", "02:00:00:00:00:05", "wire2")
	before := take(t, Options{Kinds: []string{Sysctl}})
	write(t, "/proc/sys/net/ipv6/conf/eno2/stable_secret", "2001:db8::1")
	var got []string
	for _, c := range Diff(before, take(t, Options{Kinds: []string{Sysctl}})) {
		got = append(got, c.String())
	}
	want := []string{
		"~ sysctl net.ipv6.conf.eno2.addr_gen_mode: 1 -> 2",
		"+ sysctl net.ipv6.conf.eno2.stable_secret: 2001:0db8:0000:0000:0000:0000:0000:0001",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}
