package netns_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

func TestNode_has_namespaces_of_its_own(t *testing.T) {
	c := start(t, request(t, macvlanConflist, 2))
	for _, kind := range []string{"net", "mnt", "pid", "uts", "ipc"} {
		machine, err := os.Readlink("/proc/self/ns/" + kind)
		check(t, err)
		seen := map[string]string{machine: "the machine"}
		for _, place := range []*cluster.Place{&c.Nodes()[0].Place, &c.Nodes()[1].Place, c.Fabric()} {
			own := output(t, place.Agent, "readlink /proc/self/ns/"+kind)
			if other, shared := seen[strings.TrimSpace(own)]; shared {
				t.Errorf("%s shares its %s namespace with %s", place.Name, kind, other)
			}
			seen[strings.TrimSpace(own)] = place.Name
		}
	}
	hello, err := c.Nodes()[1].Agent.Hello(ctx(t))
	check(t, err)
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	check(t, err)
	want := agent.Hello{PID: 1, Hostname: "b", Kernel: strings.TrimSpace(string(kernel))}
	if diff := cmp.Diff(want, hello); diff != "" {
		t.Errorf("hello (-want +got):\n%s", diff)
	}
	if name, err := os.Hostname(); name != "machine" {
		t.Errorf("got the machine's name %q, %v, want it unchanged", name, err)
	}
}

func TestNode_shows_the_machines_files(t *testing.T) {
	a := start(t, request(t, macvlanConflist, 1)).Nodes()[0].Agent
	for _, tt := range []struct{ name, script, want string }{
		{"file", "cat /etc/passwd | head -c 4", "root"},
		{"mount below /", "cat /opt/shown/" + hostFile, "/opt/shown\n"},
		{"mount two levels below /", "cat /var/lib/shown/" + hostFile, "/var/lib/shown\n"},
		{"plugins", "ls " + netns.BinDir, "bridge\nhost-local\nmacvlan\n"},
		{"conflist", "ls " + netns.ConflistDir, "10-cnitest.conflist\n"},
		{"nothing in /run", "ls -A /run /run/netns", "/run:\nnetns\n\n/run/netns:\n"},
		{"nothing in the CNI store", "ls -A /var/lib/cni", ""},
		{"nothing of the CNI configuration", "ls -A /etc/cni", "net.d\n"},
		{"nothing of /opt/cni", "ls -A /opt/cni", "bin\n"},
		{"nothing in /tmp", "ls -A /tmp", ""},
		{"modes", "stat -c '%a %n' / /tmp /etc /dev/shm", "755 /\n1777 /tmp\n755 /etc\n1777 /dev/shm\n"},
		{"devices", "echo x > /dev/null && head -c 2 /dev/zero | wc -c", "2\n"},
		{"environment", "echo $PATH $HOSTNAME", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin a\n"},
		{"umask", "umask", "0022\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := output(t, a, tt.script); got != tt.want {
				t.Errorf("%s: got %q, want %q", tt.script, got, tt.want)
			}
		})
	}
}

func TestNode_writes_stay_on_the_node(t *testing.T) {
	c := start(t, request(t, macvlanConflist, 2))
	a := c.Nodes()[0].Agent
	args := agent.SnapshotArgs{Kinds: []string{snapshot.File}}
	before, err := a.Snapshot(ctx(t), args)
	check(t, err)
	machine := stateBefore(t)
	for _, path := range []string{
		"/top", "/new/dir/file", "/etc/new", "/opt/new", "/var/lib/new", "/var/lib/shown/new", "/run/new", "/tmp/new",
		"/var/lib/cni/new", "/etc/cni/new",
	} {
		output(t, a, "mkdir -p $(dirname "+path+") && echo x > "+path)
	}
	after, err := a.Snapshot(ctx(t), args)
	check(t, err)
	const x = ": -rw-r--r-- 0 0 2 sha256:73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
	want := []string{
		"+ file /etc/cni/new" + x, "+ file /etc/new" + x, "+ file /new: drwxr-xr-x 0 0",
		"+ file /new/dir: drwxr-xr-x 0 0", "+ file /new/dir/file" + x,
		"+ file /opt/new" + x, "+ file /run/new" + x, "+ file /tmp/new" + x, "+ file /top" + x,
		"+ file /var/lib/cni/new" + x, "+ file /var/lib/new" + x,
	}
	got := texts(snapshot.Diff(before, after))
	// A directory of the machine is copied when something is written in it; not all users can write to every one.
	got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "+ file /var/lib/shown") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what was written (-want +got):\n%s", diff)
	}
	if got := output(t, c.Nodes()[1].Agent, "ls -d /top /etc/new 2>/dev/null || true"); got != "" {
		t.Errorf("got %s on the other node, want nothing", got)
	}
	unchanged(t, machine)
}

// A container runtime's own files are in no snapshot, and it cannot make control groups, which would outlive the node.
func TestNode_has_mounts_of_a_runtime(t *testing.T) {
	b := backend()
	b.Mounts = netns.Mounts{Tmpfs: []string{"/var/lib/runtime", "/run/runtime"}, ControlGroups: !netns.InUserNamespace()}
	c, err := b.Start(ctx(t), request(t, macvlanConflist, 1))
	check(t, err)
	defer c.Close()
	node := c.Nodes()[0]
	args := agent.SnapshotArgs{Kinds: []string{snapshot.File}}
	before, err := node.Agent.Snapshot(ctx(t), args)
	check(t, err)
	output(t, node.Agent, "mkdir /var/lib/runtime/dir && touch /var/lib/runtime/dir/file /run/runtime/file")
	after, err := node.Agent.Snapshot(ctx(t), args)
	check(t, err)
	if changes := snapshot.Diff(before, after); len(changes) > 0 {
		t.Errorf("got %v, want none of the runtime's files", texts(changes))
	}
	path := c.(netns.Lab).PathTo(&node.Place, "/var/run/runtime/file")
	if _, err := os.Stat(path); err != nil {
		t.Errorf("from the machine: %v", err)
	}
	if b.Mounts.ControlGroups {
		script := "test -e /sys/fs/cgroup/cgroup.procs && ! mkdir /sys/fs/cgroup/new 2>/dev/null && echo read-only"
		if got := output(t, node.Agent, script); got != "read-only\n" {
			t.Errorf("got %q, want control groups that are read-only", got)
		}
	}
}

// texts returns changes as lines.
func texts(changes []snapshot.Change) []string {
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	return lines
}

func TestNode_reaches_for_nothing_of_the_machine(t *testing.T) {
	a := start(t, request(t, macvlanConflist, 1)).Nodes()[0].Agent
	for _, tt := range []struct {
		file string
		want string // of the error; empty if it can be written
	}{
		{"/proc/sys/kernel/hostname", "Read-only file system"},
		{"/proc/sys/vm/swappiness", "Read-only file system"},
		{"/proc/sysrq-trigger", "Read-only file system"},
		{"/sys/kernel/mm/transparent_hugepage/enabled", "Read-only file system"},
		{netns.BinDir + "/macvlan", "Read-only file system"},
		{netns.BinDir + "/new", "Read-only file system"},
		{"/proc/sys/net/ipv4/ip_forward", ""},
		{"/sys/class/net/eno1/ifalias", ""},
	} {
		t.Run(tt.file, func(t *testing.T) {
			if _, err := os.Stat(tt.file); err != nil && tt.want != "" && !strings.HasPrefix(tt.file, "/opt") {
				t.Skipf("this kernel has no %s", tt.file)
			}
			reply := shell(t, a, "echo 1 > "+tt.file)
			if got := reply.ExitCode == 0; got != (tt.want == "") || !strings.Contains(reply.Output, tt.want) {
				t.Errorf("got exit status %d, %q, want %q", reply.ExitCode, reply.Output, tt.want)
			}
		})
	}
}

func TestNode_daemon_is_seen_and_ends_with_the_cluster(t *testing.T) {
	machine := stateBefore(t)
	c, err := backend().Start(ctx(t), request(t, macvlanConflist, 1))
	check(t, err)
	defer c.Close()
	a := c.Nodes()[0].Agent
	before, err := a.Snapshot(ctx(t), agent.SnapshotArgs{})
	check(t, err)
	output(t, a, "sleep 1000 </dev/null >/dev/null 2>&1 &")
	// Its parent ends: only the daemon remains.
	output(t, a, "(sleep 0 &) ")
	want := []string{"+ process sleep 1000: uid 0"}
	eventually(t, func() error {
		after, err := a.Snapshot(ctx(t), agent.SnapshotArgs{})
		if diff := cmp.Diff(want, texts(snapshot.Diff(before, after))); err != nil || diff != "" {
			return fmt.Errorf("what was left behind (-want +got):\n%s%w", diff, err)
		}
		return nil
	})
	check(t, c.Close())
	unchanged(t, machine)
}

func TestNode_sysctls(t *testing.T) {
	req := request(t, dualStackConflist, 2)
	strict := 1
	req.Nodes[1].RPFilter = &strict
	req.Nodes[1].Sysctl = map[string]string{
		"net.ipv4.conf.all.arp_filter": "1", "net.ipv4.conf.default.accept_local": "1",
	}
	c := start(t, req)
	pod, err := c.Nodes()[1].Agent.CreateNamespace(ctx(t), "pod")
	check(t, err)
	table := map[string]string{
		"ip_forward": "1", "all.forwarding": "1", "default.forwarding": "1",
		"all.accept_redirects": "0", "default.accept_redirects": "1",
	}
	for name, value := range map[string]string{
		"accept_local": "0", "accept_source_route": "0", "arp_accept": "0", "arp_announce": "0", "arp_filter": "0",
		"arp_ignore": "0",
		"arp_notify": "0", "disable_policy": "0", "disable_xfrm": "0", "drop_gratuitous_arp": "0",
		"drop_unicast_in_l2_multicast": "0",
		"ignore_routes_with_linkdown":  "0", "log_martians": "0", "promote_secondaries": "1", "proxy_arp": "0",
		"proxy_arp_pvlan": "0",
		"route_localnet":  "0", "rp_filter": "2", "secure_redirects": "1", "send_redirects": "1", "shared_media": "1",
		"src_valid_mark": "0",
	} {
		table["all."+name], table["default."+name] = value, value
	}
	with := func(changes map[string]string) map[string]string {
		values := map[string]string{}
		for name, value := range table {
			values[name] = value
		}
		for name, value := range changes {
			values[name] = value
		}
		return values
	}
	strictTable := with(map[string]string{
		"all.rp_filter": "1", "default.rp_filter": "1", "all.arp_filter": "1", "default.accept_local": "1",
	})
	for _, tt := range []struct {
		place cluster.Place
		want  map[string]string
	}{
		{c.Nodes()[0].Place, table},
		{c.Nodes()[1].Place, strictTable},
		{cluster.Place{Name: "pod/pod", Agent: c.Nodes()[1].Agent, Netns: pod}, strictTable},
		{*c.Hosts()["router"], with(map[string]string{"all.rp_filter": "0", "default.rp_filter": "0"})},
		{*c.Hosts()["lan"], with(map[string]string{
			"all.rp_filter": "0", "default.rp_filter": "0", "ip_forward": "0", "all.forwarding": "0",
			"default.forwarding": "0",
		})},
	} {
		t.Run(tt.place.Name, func(t *testing.T) {
			state, err := tt.place.Agent.Snapshot(ctx(t), agent.SnapshotArgs{
				Kinds: []string{snapshot.Sysctl}, Namespaces: map[string]string{"place": nonEmpty(tt.place.Netns)},
			})
			check(t, err)
			got := map[string]string{}
			for _, item := range state.Items {
				name := strings.TrimPrefix(strings.TrimPrefix(item.Name, "net.ipv4."), "conf.")
				if _, asked := tt.want[name]; asked && item.Scope == "place" &&
					strings.HasPrefix(item.Name, "net.ipv4.") {
					got[name] = item.Text
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("sysctls (-want +got):\n%s", diff)
			}
		})
	}
}

// nonEmpty returns the path of a place's namespace. A Place without a path is in the agent's own namespace.
func nonEmpty(path string) string {
	if path == "" {
		return "/proc/1/ns/net"
	}
	return path
}
