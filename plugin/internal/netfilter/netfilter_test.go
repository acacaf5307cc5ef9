package netfilter

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNamespace runs a test on a thread in a network namespace of its own. The thread ends with it.
func inNamespace(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		test(t)
	}()
	<-done
}

func forwarding() Forwarding { return Forwarding{From: "veth", To: []string{"eno1"}} }

func iif(data string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(data)},
	}
}

func oif(data string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(data)},
	}
}

func whole(name string) string { return name + string(make([]byte, 16-len(name))) }

func state(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

func accept() []expr.Any { return verdict(expr.VerdictAccept, "") }

func TestDrops(t *testing.T) {
	dropped := []string{"chain FORWARD of table ip filter"}
	source := []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{10, 10, 20, 50}},
	}
	mark := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(0x4000), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0x4000)},
	}
	states := func(mask uint16) []expr.Any {
		info := &xt.ConntrackMtinfo3{}
		info.MatchFlags, info.StateMask = 1, mask
		return []expr.Any{&expr.Match{Name: "conntrack", Rev: 3, Info: info}}
	}
	for _, tt := range []struct {
		name   string
		policy nftables.ChainPolicy
		rules  [][]expr.Any
		want   []string
	}{
		{name: "policy accept", policy: nftables.ChainPolicyAccept},
		{name: "no rule", want: dropped},
		{name: "as docker leaves it", want: dropped, rules: [][]expr.Any{
			verdict(expr.VerdictJump, "FURTHER"),
			append(append(oif(whole("docker0")), states(1<<1|1<<2)...), accept()...),
			append(iif(whole("docker0")), accept()...),
		}},
		{name: "as kube-proxy adds to it", want: dropped, rules: [][]expr.Any{append(mark, accept()...), append(states(1<<1|1<<2), accept()...)}},
		{name: "established alone", want: dropped, rules: [][]expr.Any{append(state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept()...)}},
		{name: "new", rules: [][]expr.Any{append(state(expr.CtStateBitNEW), accept()...)}},
		{name: "new, of iptables", rules: [][]expr.Any{append(states(1<<3), accept()...)}},
		{name: "all veths", rules: [][]expr.Any{append(iif("veth"), accept()...)}},
		{name: "names that begin otherwise", want: dropped, rules: [][]expr.Any{append(iif("vnet"), accept()...)}},
		{name: "names that begin shorter", rules: [][]expr.Any{append(iif("v"), accept()...)}},
		{name: "out of the uplink", rules: [][]expr.Any{append(oif(whole("eno1")), accept()...)}},
		{name: "out of another", want: dropped, rules: [][]expr.Any{append(oif(whole("eno2")), accept()...)}},
		{name: "an address", rules: [][]expr.Any{append(source, accept()...)}},
		{name: "in a chain below", rules: [][]expr.Any{verdict(expr.VerdictJump, "ACCEPTING")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func(t *testing.T) {
				conn, err := nftables.New()
				if err != nil {
					t.Fatal(err)
				}
				table := conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
				conn.AddChain(&nftables.Chain{Name: "FURTHER", Table: table})
				accepting := conn.AddChain(&nftables.Chain{Name: "ACCEPTING", Table: table})
				conn.AddRule(&nftables.Rule{Table: table, Chain: accepting, Exprs: append(iif("veth"), accept()...)})
				forward := conn.AddChain(&nftables.Chain{
					Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
					Priority: nftables.ChainPriorityFilter, Policy: &tt.policy,
				})
				for _, exprs := range tt.rules {
					conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: exprs})
				}
				if err := conn.Flush(); err != nil {
					t.Fatal(err)
				}
				got, err := forwarding().Drops()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Without a binary that sets a policy: the kernel's own first table, with one verdict changed.
func TestDrops_legacy(t *testing.T) {
	for i, want := range []string{
		"chain FORWARD of table filter of iptables-legacy", "chain FORWARD of table filter of ip6tables-legacy",
	} {
		t.Run(want, func(t *testing.T) {
			inNamespace(t, func(t *testing.T) {
				family := legacyFamilies()[i]
				if _, err := os.Stat(family.names); err != nil {
					t.Skip("the kernel has no legacy iptables")
				}
				if drops, err := forwarding().Drops(); err != nil || len(drops) != 0 {
					t.Fatalf("got %v, %v, want nothing before there is a table", drops, err)
				}
				table, err := readLegacy(family)
				if err != nil {
					t.Skipf("the kernel has no table filter of legacy iptables: %v", err)
				}
				if drops, err := forwarding().Drops(); err != nil || len(drops) != 0 {
					t.Fatalf("got %v, %v, want nothing while the policy is to accept", drops, err)
				}
				at := int(table.Underflow[forwardHook])
				verdict := at + table.short(at+table.head) + 32
				var drop int32 = verdictDrop
				binary.NativeEndian.PutUint32(table.entries[verdict:], uint32(drop))
				replaceLegacy(t, table)
				got, err := forwarding().Drops()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{want}, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// replaceLegacy sets a table as iptables does: struct ipt_replace, then the entries.
func replaceLegacy(t *testing.T, table *legacyTable) {
	t.Helper()
	fd, err := unix.Socket(table.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	counters := make([]byte, 16*int(table.NumEntries))
	raw := make([]byte, 96)
	copy(raw, "filter")
	for i, field := range append(append([]uint32{table.ValidHooks, table.NumEntries, table.Size},
		table.HookEntry[:]...), table.Underflow[:]...) {
		binary.NativeEndian.PutUint32(raw[32+4*i:], field)
	}
	binary.NativeEndian.PutUint32(raw[84:], table.NumEntries)
	binary.NativeEndian.PutUint64(raw[88:], uint64(uintptr(unsafe.Pointer(&counters[0]))))
	raw = append(raw, table.entries...)
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(table.level), 64,
		uintptr(unsafe.Pointer(&raw[0])), uintptr(len(raw)), 0)
	runtime.KeepAlive(counters)
	if errno != 0 {
		t.Fatal(errno)
	}
}

// TestFlushConnections checks what is left of a list of connections that fits into a page, which is read from /proc
// first, and of a longer one.
func TestFlushConnections(t *testing.T) {
	for name, others := range map[string]int{"few": 0, "many": 600} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t, func(t *testing.T) {
				for i, ends := range [][4]string{
					{"10.0.0.2", "10.96.0.1", "10.0.0.3", "10.0.0.1"},
					{"10.0.0.9", "10.0.0.1", "10.0.0.2", "10.0.0.9"},
					{"10.0.0.9", "10.96.0.1", "10.0.0.3", "10.0.0.9"},
					{"fd00::2", "fd00::9", "fd00::9", "fd00::2"},
					{"fd00::3", "fd00::9", "fd00::9", "fd00::3"},
				} {
					track(t, uint16(1000+i), ends, 0)
				}
				// The mark has the bytes of 10.0.0.2.
				track(t, 2000, [4]string{"10.0.0.7", "10.96.0.1", "10.0.0.3", "10.0.0.7"}, 0x0a000002)
				for i := range others {
					track(t, uint16(3000+i), [4]string{"10.0.0.11", "10.0.0.1", "10.0.0.1", "10.0.0.11"}, 0)
				}
				for range 2 {
					for _, ip := range []string{"10.0.0.2", "fd00::2", "10.0.0.111"} {
						if err := FlushConnections(netip.MustParseAddr(ip)); err != nil {
							t.Fatal(err)
						}
					}
				}
				want := []string{"10.0.0.7", "10.0.0.9", "fd00::3"}
				if others > 0 {
					want = []string{"10.0.0.11", "10.0.0.7", "10.0.0.9", "fd00::3"}
				}
				if diff := cmp.Diff(want, sources(t)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// sources returns the different sources of all connections.
func sources(t *testing.T) (list []string) {
	t.Helper()
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, flow := range flows {
			list = append(list, flow.Forward.SrcIP.String())
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestMayHaveConnections checks that connections of other addresses cause no search of the kernel's table.
func TestMayHaveConnections(t *testing.T) {
	if _, err := os.Stat("/proc/thread-self/net/nf_conntrack"); err != nil {
		t.Skip(err)
	}
	inNamespace(t, func(t *testing.T) {
		track(t, 1000, [4]string{"10.0.0.21", "10.0.0.1", "10.0.0.1", "10.0.0.21"}, 0)
		track(t, 1001, [4]string{"fd00::21", "fd00::1", "fd00::1", "fd00::21"}, 0)
		defer func() {
			for i := range 30 {
				track(t, uint16(2000+i), [4]string{"10.0.0.22", "10.0.0.1", "10.0.0.1", "10.0.0.22"}, 0)
			}
			if !mayHaveConnections([]netip.Addr{netip.MustParseAddr("10.0.0.2")}) {
				t.Error("got false of a list that is longer than a page, want true")
			}
		}()
		for ip, want := range map[string]bool{
			"10.0.0.21": true, "10.0.0.1": true, "fd00::21": true, "10.0.0.2": false, "0.0.0.21": false,
			"fd00::2": false,
		} {
			if got := mayHaveConnections([]netip.Addr{netip.MustParseAddr(ip)}); got != want {
				t.Errorf("%s: got %v, want %v", ip, got, want)
			}
		}
	})
}

// track makes a UDP entry with the addresses of the request and of the reply.
func track(t *testing.T, port uint16, ends [4]string, mark uint32) {
	t.Helper()
	ips := [4]net.IP{}
	family := netlink.InetFamily(unix.AF_INET)
	for i, end := range ends {
		ips[i] = net.ParseIP(end)
		if v4 := ips[i].To4(); v4 != nil {
			ips[i] = v4
		} else {
			family = unix.AF_INET6
		}
	}
	flow := &netlink.ConntrackFlow{
		FamilyType: uint8(family), TimeOut: 100, Mark: mark,
		Forward: netlink.IPTuple{SrcIP: ips[0], DstIP: ips[1], SrcPort: port, DstPort: 53, Protocol: unix.IPPROTO_UDP},
		Reverse: netlink.IPTuple{SrcIP: ips[2], DstIP: ips[3], SrcPort: 53, DstPort: port, Protocol: unix.IPPROTO_UDP},
	}
	if err := netlink.ConntrackCreate(netlink.ConntrackTable, family, flow); err != nil {
		t.Fatal(err)
	}
}
