package ssh_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/backend/ssh"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// waitTime limits every wait of a test.
const waitTime = 2 * time.Minute

// TestMain makes the binary an agent, a stub and a keeper, as cnitest is.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "relay" {
		exit(relay(os.Args[2:]))
	}
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case "agent":
			exit(netns.ChildMain(os.Args[2]))
		case "harness":
			exit(harness(os.Args[2]))
		case ssh.KeeperCommand:
			exit(ssh.KeeperMain(os.Args[2], []string{"/proc/self/exe", "agent"}))
		}
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// machines are the machines of a test: nodes of a netns lab, which ssh calls node1 and node2.
type machines struct {
	t   *testing.T
	dir string
	lab cluster.Cluster
}

const testConflist = `{"cniVersion": "1.1.0", "name": "test", "plugins": [{"type": "macvlan", "master": "eno7", "ipam": {"type": "host-local",
"ranges": [[{"subnet": "10.77.0.0/16", "rangeStart": "10.77.1.2", "rangeEnd": "10.77.1.254", "gateway": "10.77.0.1"}]]}}]}`

// newMachines makes two machines with two NICs each, on a LAN with other hosts.
func newMachines(t *testing.T) *machines {
	t.Helper()
	return makeMachines(t, cluster.Request{Nodes: []scenario.Node{{Name: "a", NICs: 2}, {Name: "b", NICs: 2}}})
}

func makeMachines(t *testing.T, req cluster.Request) *machines {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make machines of namespaces")
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		t.Skip("needs nsenter in place of ssh: ", err)
	}
	m := &machines{t: t, dir: t.TempDir()}
	file, err := conflist.Parse("machines", []byte(strings.ReplaceAll(testConflist, "eno7", "ens6")))
	if err != nil {
		t.Fatal(err)
	}
	backend := &netns.Backend{Command: []string{"/proc/self/exe", "agent"}}
	req.Conflist, req.BinDir = file, m.dir
	m.lab, err = backend.Start(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.lab.Close() })
	return m
}

// ssh writes a program that replaces ssh: on the machine that its last argument but one names, it runs its last
// argument, after the command before.
func (m *machines) ssh(before string) []string {
	m.t.Helper()
	var cases strings.Builder
	for i, node := range m.lab.Nodes() {
		way := m.lab.(netns.Enterer).WayIn(&node.Place)
		fmt.Fprintf(&cases, "node%d) exec %s sh -c \"%s $2\" ;;\n", i+1, way, before)
	}
	script := filepath.Join(m.dir, fmt.Sprintf("ssh-%d", len(before)))
	text := "#!/bin/sh\nexport HOME=/root\nwhile [ $# -gt 2 ]; do shift; done\ncase $1 in\n" + cases.String() +
		"*) echo \"$1: no such machine\" >&2; exit 255 ;;\nesac\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
	return []string{script}
}

// cable returns such a program whose input and output pass through another process, as they would pass a network.
func (m *machines) cable() []string {
	m.t.Helper()
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	return append([]string{self, "relay"}, m.ssh("")...)
}

// relay runs a program and copies its input and output. It writes the ID of its own process to a file beside the
// program.
func relay(argv []string) error {
	if err := os.WriteFile(fmt.Sprintf("%s.%d.relay", argv[0], os.Getpid()), nil, 0o644); err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	// It copies through its own pipes and does not pass the descriptors on.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = struct{ io.Reader }{os.Stdin}, struct{ io.Writer }{os.Stdout}, os.Stderr
	return cmd.Run()
}

// binDir builds the plugins that tests use; the go command caches them.
func binDir(t *testing.T, plugins ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, plugin := range plugins {
		cmd := exec.Command("go", "tool", "-n", plugin)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("build %s: %v", plugin, err)
		}
		if err := os.Symlink(strings.TrimSpace(string(out)), filepath.Join(dir, plugin)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func parse(t *testing.T, text string) *conflist.File {
	t.Helper()
	file, err := conflist.Parse("net.conflist", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// options returns the options of a run on the machines.
func (m *machines) options(binDir string) ssh.Options {
	return ssh.Options{
		Nodes: []string{"node1", "node2"}, Program: m.ssh(""), Conflist: parse(m.t, testConflist), BinDir: binDir,
		Subnet: netip.MustParsePrefix("10.77.0.0/16"), Binary: func(string) (string, error) {
			return "/proc/self/exe", nil
		},
	}
}

// open connects, and closes the backend when the test ends, unless the test closed it.
func open(t *testing.T, options ssh.Options) *ssh.Backend {
	t.Helper()
	b, err := ssh.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func request(options ssh.Options) cluster.Request {
	return cluster.Request{
		Conflist: options.Conflist, BinDir: options.BinDir, Nodes: []scenario.Node{{Name: "a"}, {Name: "b"}},
	}
}

// eventually calls try until it returns no error, or reports the last one.
func eventually(t *testing.T, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTime)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
