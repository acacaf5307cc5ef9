package netns_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

func TestReboot_keeps_the_disk(t *testing.T) {
	c := start(t, request(t, macvlanConflist, 2))
	node := c.Nodes()[0]
	write(t, node.Agent)
	if shell(t, node.Agent, "rm /var/lib/shown/"+hostFile).ExitCode == 0 {
		// The rest needs directories of the machine that this user may write to; in a user namespace they may belong to
		// another user.
		output(t, node.Agent, `rm -r /opt/shown && mkdir /opt/shown && echo new > /opt/shown/new; rm /var/lib/shown; rm -r /var/lib/shown && echo file > /var/lib/shown;
			rm /etc/passwd 2>/dev/null; ln -sfn /nowhere /etc/hostname; chmod 700 /srv; true`)
	}
	listing := "cd / && find /disk /opt/shown /var/lib/shown /etc/hostname /var/lib/cni /etc/cni /srv -printf '%M %p " +
		"%l\\n' | sort; cat /disk/file /opt/shown/* 2>/dev/null"
	want := output(t, node.Agent, listing)
	old := node.Agent
	check(t, c.Reboot(ctx(t), node))
	got := output(t, node.Agent, listing)
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the disk (-before +after):\n%s", diff)
	}
	for _, part := range []string{
		"drwx------ /disk/private ", "lrwxrwxrwx /disk/link /disk/file", "-rwsr-xr-x /disk/setuid ",
	} {
		if !slices.Contains(strings.Split(got, "\n"), part) {
			t.Errorf("want the disk to have %q, got\n%s", part, got)
		}
	}
	if _, err := old.Hello(ctx(t)); fmt.Sprint(err) != "node/a: the agent has ended" {
		t.Errorf("got %v of the agent before the reboot, want that it has ended", err)
	}
}

// write puts one file of each kind on the disk.
func write(tb testing.TB, a *agent.Client) {
	tb.Helper()
	output(tb, a, `mkdir -p /disk/private /disk/empty && cd /disk && echo content > file && chmod 640 file && ln -s /disk/file link && ln -s /dangling dangling &&
		cp file setuid && chmod 4755 setuid && chmod 700 private &&
		echo late > private/open && chmod 666 private/open && mkfifo pipe && rm pipe &&
		mkdir -p /var/lib/cni/results && echo {} > /var/lib/cni/results/cached &&
		echo > "/disk/a name: with, odd \\ characters"`)
}

// A file of the machine that was deleted on the node stays deleted, and a directory that was made again does not show
// its old content.
func TestReboot_keeps_what_was_deleted(t *testing.T) {
	c := start(t, request(t, macvlanConflist, 1))
	node := c.Nodes()[0]
	if reply := shell(t, node.Agent, "rm /opt/shown/"+hostFile); reply.ExitCode != 0 {
		t.Skipf("this user may not delete the machine's files on a node: %s", reply.Output)
	}
	output(t, node.Agent, "rm -r /var/lib/shown && mkdir /var/lib/shown && echo new > /var/lib/shown/new")
	for range 2 {
		check(t, c.Reboot(ctx(t), node))
		if got, want := output(t, node.Agent, "ls /opt/shown /var/lib/shown"),
			"/opt/shown:\n\n/var/lib/shown:\nnew\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestReboot_drops_all_else(t *testing.T) {
	c := start(t, request(t, dualStackConflist, 2))
	a, b := c.Nodes()[0], c.Nodes()[1]
	kinds := agent.SnapshotArgs{Kinds: []string{
		snapshot.Link, snapshot.Address, snapshot.Route, snapshot.Rule, snapshot.Mount, snapshot.Process,
	}}
	before, err := a.Agent.Snapshot(ctx(t), kinds)
	check(t, err)
	pod := attach(t, a, "pod")
	output(t, a.Agent, `echo x > /run/x; echo x > /tmp/x; sleep 1000 </dev/null >/dev/null 2>&1 & echo 1 > `+
		`/proc/sys/net/ipv4/conf/all/arp_ignore`)
	check(t, a.Agent.Listen(ctx(t), pod.Netns, listen(8080)))

	check(t, c.Reboot(ctx(t), a))

	if got, want := output(t, a.Agent, "ls -A /run /run/netns /tmp; cat /proc/sys/net/ipv4/conf/all/arp_ignore"),
		"/run:\nnetns\n\n/run/netns:\n\n/tmp:\n0\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// The pod's ADD left on the disk an address that nobody releases.
	if got := output(t, a.Agent, "ls /var/lib/cni/networks/dual /var/lib/cni/results"); !strings.Contains(got,
		"10.9.") || !strings.Contains(got, "dual-pod-eth0") {
		t.Errorf("want the reservation and the cached result, got %s", got)
	}
	after, err := a.Agent.Snapshot(ctx(t), kinds)
	check(t, err)
	if diff := texts(snapshot.Diff(before, after)); len(diff) > 0 {
		t.Errorf("want the node's kernel state as at its start, got %v", diff)
	}
	again := attach(t, a, "pod-again")
	for _, from := range []*cluster.Place{&b.Place, c.Hosts()["lan"], c.Hosts()["external"]} {
		for _, is4 := range []bool{true, false} {
			ask(t, from, again.Agent, again.Netns, addressOf(t, again, is4))
			address, err := a.Address("uplink", is4)
			check(t, err)
			ask(t, from, a.Agent, "", address.String())
		}
	}
}

func TestReboot_keeps_routes_to_pods(t *testing.T) {
	c := start(t, request(t, bridgeConflist, 2))
	for _, node := range c.Nodes() {
		check(t, c.Reboot(ctx(t), node))
	}
	one, two := attach(t, c.Nodes()[0], "one"), attach(t, c.Nodes()[1], "two")
	ask(t, &one, two.Agent, two.Netns, addressOf(t, two, true))
	ask(t, c.Hosts()["lan"], two.Agent, two.Netns, addressOf(t, two, true))
}

func TestReboot_error(t *testing.T) {
	before := stateBefore(t)
	req := request(t, macvlanConflist, 2)
	req.BinDir = t.TempDir()
	c, err := backend().Start(ctx(t), req)
	check(t, err)
	stranger := &cluster.Node{Place: cluster.Place{Name: "node/z"}}
	if got, want := fmt.Sprint(c.Reboot(ctx(t), stranger)), "reboot node/z: no such node"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// No node can start any more, since its plugins are gone.
	remove(t, req.BinDir)
	want := "reboot: plugin binaries: lstat " + req.BinDir + ": no such file or directory"
	if got := fmt.Sprint(c.Reboot(ctx(t), c.Nodes()[0])); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(c.Reboot(ctx(t), c.Nodes()[0])), "reboot: node/a: the agent has ended"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, err = c.Nodes()[1].Agent.Hello(ctx(t))
	check(t, err)
	check(t, c.Close())
	unchanged(t, before)
}
