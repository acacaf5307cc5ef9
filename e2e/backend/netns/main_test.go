package netns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

const (
	// insideEnv is set when this binary runs on a machine of its own; pluginsEnv is the directory of the plugins.
	insideEnv  = "CNITEST_TEST_INSIDE"
	pluginsEnv = "CNITEST_TEST_PLUGINS"
	// noNamespaces is the text of a run that cannot make namespaces.
	noNamespaces = "no namespaces for this user"
)

// TestMain runs the tests on a machine of their own: namespaces in which all processes, mounts and links belong to the
// tests. The binary is also the agent, and the harness that tests kill.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "agent":
		exit(netns.ChildMain(os.Args[len(os.Args)-1]))
	case len(os.Args) > 1 && os.Args[1] == onNode:
		exit(nodeCommand(os.Args[2:]))
	case len(os.Args) > 1 && os.Args[1] == "harness":
		exit(harness())
	case len(os.Args) > 1 && os.Args[1] == "cnitest-agent" && os.Getenv(forgetsEnv) == "":
		netns.Main(selfMain{})
	case len(os.Args) > 1 && os.Args[1] == "cnitest-agent":
		_, err := (&netns.Backend{}).Start(context.Background(), cluster.Request{})
		fmt.Println("--- FAIL: TestConformance:", err)
		os.Exit(1)
	case os.Getenv(insideEnv) != "":
		if err := furnish(); err != nil {
			exit(err)
		}
		os.Exit(m.Run())
	}
	os.Exit(runInside())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runInside builds the plugins and runs this binary again as process 1 of new namespaces. A user other than root
// becomes root of a user namespace first; it must be made before the others, since files below /proc/net belong to the
// root that exists when their namespace is made.
func runInside() int {
	plugins := os.Getenv(pluginsEnv)
	if plugins == "" {
		dir, err := buildPlugins()
		defer os.RemoveAll(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		plugins = dir
	}
	// The child gets its death signal when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), pluginsEnv+"="+plugins)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.Env = append(cmd.Env, insideEnv+"=yes")
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC
	} else {
		cmd.Env = append(cmd.Env, userEnv+"=yes")
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	err := cmd.Run()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		fmt.Printf("SKIP: %s: %v; run as root, or allow unprivileged user namespaces\n", noNamespaces, err)
		return 0
	}
	var status *exec.ExitError
	if errors.As(err, &status) {
		return max(1, status.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// buildPlugins builds the upstream plugins; the go command caches them.
func buildPlugins() (string, error) {
	dir, err := os.MkdirTemp("", "plugins-")
	if err != nil {
		return "", err
	}
	// Another user runs them as well.
	if err := os.Chmod(dir, 0o755); err != nil {
		return dir, err
	}
	for _, plugin := range []string{"macvlan", "bridge", "host-local"} {
		cmd := exec.Command("go", "tool", "-n", plugin)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		path, err := cmd.Output()
		if err != nil {
			return dir, fmt.Errorf("build %s: %w", plugin, err)
		}
		data, err := os.ReadFile(strings.TrimSpace(string(path)))
		if err != nil {
			return dir, err
		}
		if err := os.WriteFile(filepath.Join(dir, plugin), data, 0o755); err != nil {
			return dir, err
		}
	}
	return dir, nil
}

// hostFile exists on the machine in directories that a node replaces by its own, and in one that it shows.
const hostFile = "of-the-machine"

// furnish gives the test's machine processes, mounts below /, and a CNI store.
func furnish() error {
	for _, step := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("proc", "/proc", "proc", 0, "") },
		func() error { return unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755") },
		func() error { return unix.Mount("tmpfs", "/opt", "tmpfs", 0, "mode=755") },
		func() error { return unix.Mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=755") },
		func() error { return unix.Sethostname([]byte("machine")) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("furnish the machine: %w", err)
		}
	}
	for _, dir := range []string{"/run", "/opt/cni", "/opt/shown", "/var/lib/cni", "/var/lib/shown"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, hostFile), []byte(dir+"\n"),
			0o644)); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

const macvlanConflist = `{"cniVersion": "1.1.0", "name": "flat", "plugins": [{"type": "macvlan", "master": "eno1", "ipam": {
	"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`

const dualStackConflist = `{"cniVersion": "1.1.0", "name": "dual", "plugins": [{"type": "macvlan", "master": "eno1", "ipam": {
	"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/16"}], [{"subnet": "fd00:9::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}`

const bridgeConflist = `{"cniVersion": "1.1.0", "name": "routed", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {
	"type": "host-local", "ranges": [[{"subnet": "10.22.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`

func backend() *netns.Backend {
	return &netns.Backend{Command: []string{"/proc/self/exe", "agent"}}
}

// request returns a request for nodes a, b, … with the plugins that TestMain built.
func request(tb testing.TB, text string, nodes int) cluster.Request {
	tb.Helper()
	file, err := conflist.Parse("test.conflist", []byte(text))
	check(tb, err)
	req := cluster.Request{Conflist: file, BinDir: os.Getenv(pluginsEnv)}
	for i := range nodes {
		req.Nodes = append(req.Nodes, scenario.Node{Name: string(rune('a' + i))})
	}
	return req
}

// start starts a cluster that ends with the test.
func start(tb testing.TB, req cluster.Request) cluster.Cluster {
	tb.Helper()
	c, err := backend().Start(ctx(tb), req)
	check(tb, err)
	tb.Cleanup(func() { check(tb, c.Close()) })
	return c
}

// patience limits how long a test waits for something that does not happen. No verdict depends on it.
const patience = 2 * time.Minute

// ctx returns a context that ends shortly before the time of the test binary is over.
func ctx(tb testing.TB) context.Context {
	tb.Helper()
	c, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return c
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// eventually calls f until it returns no error, or fails with the last one.
func eventually(tb testing.TB, f func() error) {
	tb.Helper()
	err := f()
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); err = f() {
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		tb.Fatalf("after %s: %v", patience, err)
	}
}

// shell runs a script on a node.
func shell(tb testing.TB, a *agent.Client, script string) agent.CommandReply {
	tb.Helper()
	reply, err := a.Command(ctx(tb), agent.CommandArgs{Argv: []string{"/bin/sh", "-c", script}})
	check(tb, err)
	return reply
}

// output returns the output of a script, which must succeed.
func output(tb testing.TB, a *agent.Client, script string) string {
	tb.Helper()
	reply := shell(tb, a, script)
	if reply.ExitCode != 0 {
		tb.Fatalf("%s: exit status %d: %s", script, reply.ExitCode, reply.Output)
	}
	return reply.Output
}

// attach makes a pod and attaches it with the node's conflist.
func attach(tb testing.TB, node *cluster.Node, name string) cluster.Place {
	tb.Helper()
	place, err := tryAttach(ctx(tb), node, name)
	check(tb, err)
	return place
}

func tryAttach(ctx context.Context, node *cluster.Node, name string) (cluster.Place, error) {
	path, err := node.Agent.CreateNamespace(ctx, name)
	if err != nil {
		return cluster.Place{}, err
	}
	// Addresses can be used at once, without the second or two of duplicate address detection.
	if err := node.Agent.SetSysctls(ctx, path, map[string]string{"net.ipv6.conf.default.accept_dad": "0"}); err != nil {
		return cluster.Place{}, err
	}
	reply, err := node.Agent.CNI(ctx, cni.Request{
		Verb: cni.Add, Conflist: node.Conflist, BinDirs: node.BinDirs, ContainerID: name, Netns: path, IfName: "eth0",
	})
	if err == nil {
		err = reply.Outcome.Err()
	}
	return cluster.Place{Name: "pod/" + name, Agent: node.Agent, Netns: path}, err
}

// addressOf returns an address of a pod.
func addressOf(tb testing.TB, pod cluster.Place, is4 bool) string {
	tb.Helper()
	links, err := pod.Agent.Links(ctx(tb), pod.Netns)
	check(tb, err)
	for _, l := range links {
		for _, cidr := range l.Addresses {
			ip, _, err := net.ParseCIDR(cidr)
			check(tb, err)
			if l.Name == "eth0" && (ip.To4() != nil) == is4 {
				return ip.String()
			}
		}
	}
	tb.Fatalf("%s: want an address on eth0, got %+v", pod.Name, links)
	return ""
}
