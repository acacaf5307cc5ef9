package netns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// machine is a process in its own namespaces, the agent in it, and a handle to its links. It ends when its standard
// input ends, so that it never outlives the harness.
type machine struct {
	name   string
	agent  *agent.Client
	links  *netlink.Handle
	ns     netns.NsHandle
	cmd    *exec.Cmd
	stderr *lockedBuffer
	ended  sync.Once
	// services are what this process offers in the machine's namespaces; they keep them alive.
	services []io.Closer
}

const machineNamespaces = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS |
	unix.CLONE_NEWIPC

// startMachine runs the agent command, which calls ChildMain, and waits for the agent's first answer.
func startMachine(ctx context.Context, command []string, name string, child childConfig) (_ *machine, err error) {
	hostname := name[strings.LastIndex(name, "/")+1:]
	child.Hostname = hostname
	config, err := json.Marshal(child)
	if err != nil {
		return nil, err
	}
	m := &machine{name: name, stderr: &lockedBuffer{}, ns: netns.None()}
	m.cmd = exec.Command(command[0], append(append([]string{}, command[1:]...), string(config))...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: machineNamespaces,
		// A terminal's interrupt must reach only the harness, which then ends its machines.
		Setpgid: true,
	}
	m.cmd.Env = nodeEnv(os.Environ(), hostname)
	m.cmd.Stderr = m.stderr
	stdin, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: start agent: %w", name, err)
	}
	defer func() {
		if err != nil {
			// Its output is complete only when it has ended.
			m.close()
			err = m.explain(err)
		}
	}()
	m.agent = agent.NewClient(name, agent.Pipe{ReadCloser: stdout, WriteCloser: stdin})
	ctx, cancel := machinetime.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err = m.agent.Hello(ctx); err != nil {
		return nil, err
	}
	if m.ns, err = netns.GetFromPid(m.cmd.Process.Pid); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if m.links, err = netlink.NewHandleAt(m.ns, unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// nodeEnv returns the environment of a node's processes. It has no variables of CNI, which are for plugins only. PATH
// does not depend on the user who runs the harness: it is the one that a service manager gives a kubelet
// (systemd.exec(5)).
func nodeEnv(environ []string, hostname string) []string {
	env := slices.DeleteFunc(slices.Clone(environ), func(e string) bool { return strings.HasPrefix(e, "CNI_") })
	return append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME="+hostname)
}

// explain adds the output of the agent to an error.
func (m *machine) explain(err error) error {
	if text := strings.TrimSpace(m.stderr.String()); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// close ends the process and everything in its namespaces. It may be called again.
func (m *machine) close() {
	m.ended.Do(func() {
		for _, service := range m.services {
			_ = service.Close()
		}
		if m.agent != nil {
			_ = m.agent.Close()
		}
		// The agent ends when its input ends, but one that hangs does not.
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		if m.links != nil {
			m.links.Close()
		}
		if m.ns.IsOpen() {
			_ = m.ns.Close()
		}
	})
}

// loopback brings the machine's loopback interface up.
func (m *machine) loopback() error {
	lo, err := m.links.LinkByName("lo")
	if err != nil {
		return err
	}
	return m.links.LinkSetUp(lo)
}

// inside calls f on a thread in the machine's network namespace.
func (m *machine) inside(f func() error) error {
	return ns.WithNetNSPath(fmt.Sprintf("/proc/%d/ns/net", m.pid()), func(ns.NetNS) error { return f() })
}

// pid returns the ID of the machine's first process as the caller sees it.
func (m *machine) pid() int { return m.cmd.Process.Pid }

// lockedBuffer stores the output of a process; others may read it at the same time.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
