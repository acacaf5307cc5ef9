package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// plugins writes scripts that act as plugins.
func plugins(tb testing.TB, scripts map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, script := range scripts {
		check(tb, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755))
	}
	return dir
}

func TestCNI_trace(t *testing.T) {
	// libcni writes to its cache: use a disk that vanishes with this process.
	check(t, unix.Mount("tmpfs", "/var/lib", "tmpfs", 0, ""))
	t.Cleanup(func() { check(t, unix.Unmount("/var/lib", unix.MNT_DETACH)) })
	disk := t.TempDir()
	c, _ := serve(t, agent.Options{Files: []snapshot.FileTree{{Name: "/disk", FS: os.DirFS(disk)}}})
	pod := namespace(t, c, "pod")
	dir := plugins(t, map[string]string{
		"first": `cat >/dev/null; echo x > ` + disk + `/made; echo '{"cniVersion": "1.0.0"}'`,
		// It leaves a process behind, which ends before the plugin does.
		"second": `cat >/dev/null; p=$(sleep 0 >/dev/null 2>&1 & echo $!); until [ -z "$(cat /proc/$p/cmdline 2>/dev/null)" ]; do :; done; echo '{"cniVersion": "1.0.0"}'`,
		"third":  `cat >/dev/null; rm ` + disk + `/made; echo '{"code": 7, "msg": "no luck"}'; exit 1`,
	})
	reply, err := c.CNI(ctx(t), cni.Request{
		Verb: cni.Add, Conflist: []byte(`{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "first"}, ` +
			`{"type": "second"}, {"type": "third"}]}`),
		BinDirs: []string{dir}, ContainerID: "c", Netns: pod, IfName: "eth0", Trace: []string{
			snapshot.File, snapshot.Process,
		},
	})
	check(t, err)
	wantError(t, reply.Outcome.Err(), "third: no luck (code 7)")
	var names []string
	for _, call := range reply.Outcome.Calls {
		names = append(names, call.Plugin)
	}
	if diff := cmp.Diff([]string{"first", "second", "third"}, names); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	var changes [][]string
	for _, list := range reply.Changes {
		lines := []string{}
		for _, change := range list {
			lines = append(lines, strings.SplitAfterN(change.String(), ":", 2)[0])
		}
		changes = append(changes, lines)
	}
	if diff := cmp.Diff([][]string{{"+ file /disk/made:"}, {}, {"- file /disk/made:"}}, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestPlugin(t *testing.T) {
	c := start(t)
	dir := plugins(t, map[string]string{
		"echo": `env | sort | grep -v '^PWD=\|^_=\|^SHLVL='; cat; echo why >&2; exit 4`,
	})
	got, err := c.Plugin(ctx(t), agent.PluginArgs{
		Plugin: "echo", BinDirs: []string{"/does/not/exist", dir}, Stdin: []byte("{}\n"),
		Env: []string{"CNI_COMMAND=VERSION", "HOME=/root"},
	})
	check(t, err)
	path := "PATH=" + os.Getenv("PATH")
	want := cni.Call{
		Plugin: "echo", Verb: cni.Version, Path: dir + "/echo", Env: []string{"CNI_COMMAND=VERSION", path},
		Stdin:  "{}\n",
		Stdout: "CNI_COMMAND=VERSION\n" + path + "\n{}\n", Stderr: "why\n", ExitCode: 4,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(cni.Call{}, "Duration")); diff != "" {
		t.Errorf("call (-want +got):\n%s", diff)
	}
	if got.Duration <= 0 || got.Duration > time.Minute {
		t.Errorf("got a duration of %s, want one", got.Duration)
	}
	_, err = c.Plugin(ctx(t), agent.PluginArgs{Plugin: "pigeon", BinDirs: []string{dir}})
	wantError(t, err, "node/a: plugin pigeon: no such binary in "+dir+`: failed to find plugin "pigeon" in path [`+dir+
		"]")
}

func TestRevert(t *testing.T) {
	disk := t.TempDir()
	c, _ := serve(t, agent.Options{Files: []snapshot.FileTree{{Name: disk, FS: os.DirFS(disk)}}})
	pod := namespace(t, c, "pod")
	args := agent.SnapshotArgs{
		Kinds: []string{snapshot.File, snapshot.Sysctl}, Namespaces: map[string]string{"pod": pod},
	}
	before, err := c.Snapshot(ctx(t), args)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(disk, "made"), nil, 0o600))
	check(t, c.SetSysctls(ctx(t), pod, map[string]string{"net.ipv4.ip_default_ttl": "77"}))
	after, err := c.Snapshot(ctx(t), args)
	check(t, err)
	changes := snapshot.Diff(before, after)
	if len(changes) != 2 {
		t.Fatalf("got the changes %v, want 2", changes)
	}
	for _, change := range changes {
		check(t, c.Revert(ctx(t), agent.RevertArgs{Change: change, Namespaces: args.Namespaces}))
	}
	after, err = c.Snapshot(ctx(t), args)
	check(t, err)
	if got := snapshot.Diff(before, after); got != nil {
		t.Errorf("got the changes %v, want none", got)
	}
	err = c.Revert(ctx(t), agent.RevertArgs{Change: changes[1], Namespaces: args.Namespaces})
	wantError(t, err, "node/a: revert pod sysctl net.ipv4.ip_default_ttl: not there any more as the change left it")
}
