package ssh_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/ssh"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// harnessConfig configures a harness that runs in its own process.
type harnessConfig struct {
	Program []string
	BinDir  string
}

// harness attaches a pod on each machine, starts a daemon there, changes the network, and prints that it is ready. Then
// it waits for its end.
func harness(config string) error {
	var c harnessConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	ctx := context.Background()
	file, err := conflist.Parse("net.conflist", []byte(testConflist))
	if err != nil {
		return err
	}
	b, err := ssh.Open(ctx, ssh.Options{
		Nodes: []string{"node1", "node2"}, Program: c.Program, Conflist: file, BinDir: c.BinDir,
		Subnet: netip.MustParsePrefix("10.77.0.0/16"),
		Binary: func(string) (string, error) { return "/proc/self/exe", nil },
	})
	if err != nil {
		return err
	}
	lab, err := b.Start(ctx, cluster.Request{
		Conflist: file, BinDir: c.BinDir, Nodes: []scenario.Node{{Name: "a"}, {Name: "b"}},
	})
	if err != nil {
		return err
	}
	for _, node := range lab.Nodes() {
		path, err := node.Agent.CreateNamespace(ctx, "pod")
		if err != nil {
			return err
		}
		reply, err := node.Agent.CNI(ctx, cni.Request{
			Verb: cni.Add, Conflist: node.Conflist, BinDirs: node.BinDirs, ContainerID: "pod", Netns: path,
			IfName: "eth0",
		})
		if err := errors.Join(err, reply.Outcome.Err(),
			node.Agent.AddBridge(ctx, agent.ObstacleArgs{Name: "left"}),
			node.Agent.SetSysctls(ctx, "", map[string]string{"net.ipv4.conf.all.arp_announce": "2"}),
			node.Agent.DropForwarded(ctx, agent.ForwardArgs{}),
			node.Agent.StartDaemon(ctx, agent.DaemonArgs{Name: "left", Command: []string{
				"sh", "-c", "touch /run/ready; exec sleep 1000",
			}, File: "/run/ready", Within: waitTime}),
		); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	for ctx.Err() == nil {
		if err := lab.(cluster.Losable).Lost(); err != nil {
			fmt.Println(err)
			// It does not end by itself: a stopped process would continue and end when its parent ends, but the
			// machines must notice the loss by themselves.
			select {}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// startHarness starts a harness and waits until it is ready.
func startHarness(t *testing.T, program []string, binDir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	config, err := json.Marshal(harnessConfig{program, binDir})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "harness", string(config))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("got %q, want ready", lines.Text())
	}
	return cmd, lines
}

// changed checks that the harness made the changes that must be undone later.
func (m *machines) changed() {
	m.t.Helper()
	for _, node := range m.lab.Nodes() {
		links, err := node.Agent.Links(m.t.Context(), "")
		if err != nil {
			m.t.Fatal(err)
		}
		if !strings.Contains(fmt.Sprint(links), "left") {
			m.t.Fatalf("%s: got links %v, want the bridge that the harness made", node.Name, links)
		}
	}
}

// TestKilled kills the harness: the machines are then as before.
func TestKilled(t *testing.T) {
	m := newMachines(t)
	before := m.state()
	cmd, _ := startHarness(t, m.ssh(""), binDir(t, "macvlan", "host-local"))
	m.changed()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	m.unchanged(before)
}

// TestCut stops the processes that relay the connections: the harness prints that the connections are lost, and the
// machines are as before, both within limited time.
func TestCut(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute until either side takes the other one for gone")
	}
	m := newMachines(t)
	before := m.state()
	_, lines := startHarness(t, m.cable(), binDir(t, "macvlan", "host-local"))
	m.changed()
	relays := relaysOf(t, m.dir)
	if len(relays) != 2 {
		t.Fatalf("got the relays %v, want one for each machine", relays)
	}
	t.Cleanup(func() {
		for _, pid := range relays {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	for _, pid := range relays {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if !lines.Scan() || !strings.HasSuffix(lines.Text(), ": the connection is lost") {
		t.Errorf("got %q, want the harness to say that the connection is lost", lines.Text())
	}
	m.unchanged(before)
}

// TestClose_jumpHost closes a connection that another process of the user's ssh configuration carries and that does not
// end.
func TestClose_jumpHost(t *testing.T) {
	m := newMachines(t)
	options := m.options(binDir(t, "macvlan", "host-local"))
	options.Program = append([]string{
		"/bin/sh", "-c", `sleep 1000 & echo $! >>"$0"; exec "$@"`, filepath.Join(m.dir, "jumps"),
	}, options.Program...)
	b := open(t, options)
	began := time.Now()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	// If closing waited for the process, the output would stay open for 1000 s.
	if took := time.Since(began); took > waitTime {
		t.Errorf("got an end after %s, want one that waits for nobody", took)
	}
	text, err := os.ReadFile(filepath.Join(m.dir, "jumps"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(text)) {
		eventually(t, func(context.Context) error {
			if status, err := os.ReadFile("/proc/" + word + "/stat"); err == nil && !strings.Contains(string(status),
				") Z ") {
				return fmt.Errorf("process %s is still there", word)
			}
			return nil
		})
	}
}

// TestReboot_refused runs commands that do not reboot a machine.
func TestReboot_refused(t *testing.T) {
	m := newMachines(t)
	options := m.options(binDir(t, "macvlan", "host-local"))
	options.Reboot = []string{"sh", "-c", "echo no such unit >&2; exit 5"}
	b := open(t, options)
	c, err := b.Start(t.Context(), request(options))
	if err != nil {
		t.Fatal(err)
	}
	const want = `reboot: node1: sh -c echo no such unit >&2; exit 5: exit status 5: no such unit`
	if err := c.Reboot(t.Context(), c.Nodes()[0]); fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// relaysOf returns the IDs of the processes that relay the machines' connections.
func relaysOf(t *testing.T, dir string) []int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.relay"))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		parts := strings.Split(filepath.Base(file), ".")
		pid, err := strconv.Atoi(parts[len(parts)-2])
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}
