package netns

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

// childConfig is passed to a node's process on its command line.
type childConfig struct {
	Hostname string `json:"hostname"`
	Binds    []Bind `json:"binds,omitempty"`
	Mounts   Mounts `json:"mounts"`
}

// ChildMain runs as a node's process: it builds the node's root and serves as its agent on standard input and output
// until the input ends. Its argument is the string that the backend appended to the command. The node's process is also
// the interpreter of stub plugins: if the argument is the path of one, ChildMain runs as that plugin and does not
// return.
func ChildMain(config string) error {
	if filepath.Dir(config) == stub.Dir {
		os.Exit(stub.Main(config))
	}
	var c childConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return fmt.Errorf("configuration %q: %w", config, err)
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("want to be process 1 of namespaces of my own, got process %d: only the netns backend "+
			"starts this", os.Getpid())
	}
	// Dozens of agents run at the same time, each for some seconds. They keep little memory, but frequent collections
	// cost time.
	debug.SetGCPercent(400)
	// Files that plugins write have the same modes on every machine.
	unix.Umask(0o022)
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	trees, err := enterRoot(c.Binds, c.Mounts)
	if err != nil {
		return err
	}
	trackConnections()
	return agent.Serve(agent.Pipe{ReadCloser: os.Stdin, WriteCloser: os.Stdout}, agent.Options{Files: trees})
}

// trackConnections loads the kernel's module for connection tracking, as the proxy of a node does before there are
// pods. Otherwise the first plugin that needs it would appear to add fifty sysctls. It does nothing on a kernel without
// the module.
func trackConnections() {
	// The table is empty; the request alone loads the module.
	_ = netlink.ConntrackTableFlush(netlink.ConntrackTable)
}
