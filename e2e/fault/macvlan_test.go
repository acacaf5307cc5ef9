package fault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/testutils"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/fault"
)

// macvlanNetwork is upstream's macvlan with host-local on a separate node.
type macvlanNetwork struct {
	pod   ns.NetNS
	store string
}

func newMacvlan(tb testing.TB) macvlanNetwork {
	tb.Helper()
	if _, err := netlink.LinkByName("eno1"); errors.As(err, &netlink.LinkNotFoundError{}) {
		master := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eno1"}, PeerName: "wire"}
		check(tb, netlink.LinkAdd(master))
		check(tb, netlink.LinkSetUp(master))
		tb.Cleanup(func() { check(tb, netlink.LinkDel(master)) })
	}
	pod, err := testutils.NewNS()
	check(tb, err)
	tb.Cleanup(func() { check(tb, errors.Join(pod.Close(), testutils.UnmountNS(pod))) })
	return macvlanNetwork{pod: pod, store: directory(tb)}
}

// command returns the call of the plugin.
func (m macvlanNetwork) command(verb string) fault.Command {
	config := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "net", "type": "macvlan", "master": "eno1", "mode": "bridge",
		"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "192.168.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}`, m.store)
	return fault.Command{
		Path: plugin("macvlan"), Stdin: []byte(config),
		Env: []string{
			"CNI_COMMAND=" + verb, "CNI_CONTAINERID=c1", "CNI_NETNS=" + m.pod.Path(), "CNI_IFNAME=eth0",
			"CNI_PATH=" + os.Getenv(binEnv), "PATH=" + os.Getenv("PATH"),
		},
	}
}

// links returns the names in the pod except the loopback; all temporary names count as one.
func (m macvlanNetwork) links(tb testing.TB) (names []string) {
	tb.Helper()
	check(tb, m.pod.Do(func(ns.NetNS) error {
		links, err := netlinksafe.LinkList()
		for _, l := range links {
			name := l.Attrs().Name
			if strings.HasPrefix(name, "veth") {
				name = "veth…"
			}
			if name != "lo" {
				names = append(names, name)
			}
		}
		return err
	}))
	return names
}

// reserved returns the addresses that host-local has reserved.
func (m macvlanNetwork) reserved(tb testing.TB) (addresses []string) {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(m.store, "net", "192.168.*"))
	check(tb, err)
	for _, f := range files {
		addresses = append(addresses, filepath.Base(f))
	}
	return addresses
}

// whats returns the points as "program: what", with the parts replaced that change from run to run.
func whats(points []fault.Point, replace ...string) (lines []string) {
	for _, p := range points {
		line := p.Program + ": " + regexp.MustCompile(`veth[0-9a-f]{8}`).ReplaceAllString(p.What, "veth…")
		lines = append(lines, strings.NewReplacer(replace...).Replace(line))
	}
	return lines
}

func TestMacvlan_points(t *testing.T) {
	m := newMacvlan(t)
	for _, tt := range []struct {
		verb string
		want []string
	}{
		{verb: "ADD", want: []string{
			"macvlan: RTM_NEWLINK macvlan veth… link eno1 into another namespace",
			"macvlan: RTM_SETLINK veth… name eth0",
			"macvlan: exec host-local ADD",
			"host-local: mkdir STORE/net",
			"host-local: create STORE/net/lock",
			"host-local: create STORE/net/192.168.0.2",
			"host-local: write STORE/net/192.168.0.2",
			"host-local: create STORE/net/last_reserved_ip.0",
			"host-local: write STORE/net/last_reserved_ip.0",
			"macvlan: write /proc/sys/net/ipv4/conf/eth0/arp_notify = 1",
			"macvlan: write /proc/sys/net/ipv6/conf/eth0/ndisc_notify = 1",
			"macvlan: RTM_NEWADDR 192.168.0.2/16 dev eth0",
			"macvlan: RTM_NEWLINK eth0 up",
			"macvlan: RTM_NEWROUTE default via 192.168.0.1 dev eth0",
			"macvlan: write the answer",
		}},
		{verb: "DEL", want: []string{
			"macvlan: exec host-local DEL",
			"host-local: create STORE/net/lock",
			"host-local: unlink STORE/net/192.168.0.2",
			"macvlan: RTM_DELLINK eth0",
		}},
	} {
		t.Run(tt.verb, func(t *testing.T) {
			trace, err := fault.Observe(ctx(t), m.command(tt.verb))
			check(t, err)
			if trace.Call.ExitCode != 0 || trace.Call.Failure != "" {
				t.Errorf("want success, got %s %s %s", trace.Call, trace.Call.Failure, trace.Call.Stdout)
			}
			if diff := cmp.Diff(whats(trace.Points, m.store, "STORE"), tt.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
	wantAlone(t)
}

// state contains the results of one ADD of macvlan that this test compares.
type state struct{ Links, Reserved []string }

func (m macvlanNetwork) state(tb testing.TB) state { return state{m.links(tb), m.reserved(tb)} }

// after returns the state that remains after these points.
func after(points []fault.Point) (s state) {
	for _, p := range points {
		switch {
		case strings.HasPrefix(p.What, "RTM_NEWLINK macvlan"):
			s.Links = []string{"veth…"}
		case strings.HasPrefix(p.What, "RTM_SETLINK"):
			s.Links = []string{"eth0"}
		case p.Call == "openat" && strings.Contains(p.What, "/192.168."):
			s.Reserved = []string{filepath.Base(p.What)}
		}
	}
	return s
}

func TestMacvlan_killed(t *testing.T) {
	first := newMacvlan(t)
	seen, err := fault.Observe(ctx(t), first.command("ADD"))
	check(t, err)
	var leaks []string
	for i, p := range seen.Points {
		for when, passed := range map[fault.When]int{fault.Before: i, fault.After: i + 1} {
			m := newMacvlan(t)
			trace, err := fault.Inject(ctx(t), m.command("ADD"), fault.Injection{Point: p, When: when})
			check(t, err)
			if want := fmt.Sprintf("killed %s %s", when, trace.Hit); trace.Call.Failure != want ||
				trace.Call.ExitCode != -1 || trace.Diverged || len(trace.Points) != i+1 {
				t.Errorf("got %q, exit %d, diverged %t, %d points, want %q, exit -1, %d points", trace.Call.Failure,
					trace.Call.ExitCode, trace.Diverged, len(trace.Points), want, i+1)
			}
			wantAlone(t)
			if diff := cmp.Diff(m.state(t), after(seen.Points[:passed])); diff != "" {
				t.Errorf("%s: got -, want +:\n%s", trace.Call.Failure, diff)
			}
			deleted, err := fault.Observe(ctx(t), m.command("DEL"))
			check(t, err)
			if left := m.state(t); deleted.Call.ExitCode == 0 && (left.Links != nil || left.Reserved != nil) {
				leaks = append(leaks, fmt.Sprintf("%s %d: %v %v", when, p.Number, left.Links, left.Reserved))
			}
		}
	}
	slices.Sort(leaks)
	// The temporary link, which no DEL removes, and a reservation without an owner.
	want := []string{
		"after 1: [veth…] []", "after 6: [] [192.168.0.2]", "before 2: [veth…] []", "before 7: [] [192.168.0.2]",
	}
	if diff := cmp.Diff(leaks, want); diff != "" {
		t.Errorf("leaks: got -, want +:\n%s", diff)
	}
}

func TestMacvlan_failed(t *testing.T) {
	seen, err := fault.Observe(ctx(t), newMacvlan(t).command("ADD"))
	check(t, err)
	// Upstream's ADD leaves its link behind when a later step fails.
	link := state{Links: []string{"eth0"}}
	for _, tt := range []struct {
		what  string
		errno syscall.Errno
		want  string
		left  state
	}{
		{what: "RTM_NEWLINK macvlan", errno: unix.EBUSY, want: "failed to create macvlan: device or resource busy"},
		{what: "RTM_NEWLINK macvlan", errno: unix.ENOMEM, want: "failed to create macvlan: cannot allocate memory"},
		{what: "RTM_SETLINK", errno: unix.EEXIST, want: `failed to rename macvlan to "eth0": file exists`},
		{
			what: "RTM_NEWADDR", errno: unix.ENOSPC, want: "failed to add IP addr {Interface:0x… " +
				"Address:{IP:192.168.0.2 Mask:ffff0000} Gateway:192.168.0.1} to \"eth0\": no space left on device",
			left: link,
		},
		{what: "RTM_NEWROUTE", errno: unix.ENODEV, want: "failed to add route '{0.0.0.0 00000000} via 192.168.0.1 " +
			"dev eth0 metric 0 (Scope: universe, Table: 0)': no such device", left: link},
		{
			what: "exec host-local", errno: unix.ENOMEM,
			want: "netplugin failed with no error message: fork/exec BIN/host-local: cannot allocate memory",
			left: link,
		},
		{what: "/net/192", errno: unix.ENOSPC, want: "failed to allocate for range 0: open STORE/net/192.168.0.2: no space left on device", left: link},
		{what: "write /run/", errno: unix.ENOSPC, want: "failed to allocate for range 0: write STORE/net/192.168.0.2: no space left on device", left: link},
	} {
		t.Run(tt.what+" "+unix.ErrnoName(tt.errno), func(t *testing.T) {
			m := newMacvlan(t)
			at := slices.IndexFunc(seen.Points, func(p fault.Point) bool { return strings.Contains(p.What, tt.what) })
			trace, err := fault.Inject(ctx(t), m.command("ADD"), fault.Injection{
				Point: seen.Points[at], When: fault.Fail, Errno: tt.errno,
			})
			check(t, err)
			var answer struct{ Msg string }
			check(t, json.Unmarshal([]byte(trace.Call.Stdout), &answer))
			got := strings.NewReplacer(m.store, "STORE", os.Getenv(binEnv), "BIN").Replace(answer.Msg)
			got = regexp.MustCompile("0x[0-9a-f]+").ReplaceAllString(got, "0x…")
			if got != tt.want || trace.Call.ExitCode != 1 || !trace.Told || trace.Diverged {
				t.Errorf("got %q, exit %d, told %t, diverged %t, want %q, exit 1, told", got, trace.Call.ExitCode,
					trace.Told, trace.Diverged, tt.want)
			}
			if diff := cmp.Diff(m.state(t), tt.left); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
			wantAlone(t)
		})
	}
}
