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
}

// ChildMain runs as a node's process: it builds the node's root and serves as its agent on standard
// input and output until the input ends. Its argument is what the backend put on the command line after the name of the
// command. With the path of a stub plugin, which names the node's process as its interpreter, it is that plugin and
// does not return.
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
	// There are dozens of agents at once, each for some seconds. What they keep is small, and collecting it often is
	// not.
	debug.SetGCPercent(400)
	// What plugins write has the same modes on every machine.
	unix.Umask(0o022)
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	trees, err := enterRoot(c.Binds)
	if err != nil {
		return err
	}
	trackConnections()
	return agent.Serve(agent.Pipe{ReadCloser: os.Stdin, WriteCloser: os.Stdout}, agent.Options{Files: trees})
}

// trackConnections loads the kernel's module for that where it is one, as the proxy of a node does before there are
// pods. Else the first plugin that needs it would be seen to add fifty sysctls. A kernel without the module has none to
// be seen.
func trackConnections() {
	// What is flushed is empty: to ask is what loads it.
	_ = netlink.ConntrackTableFlush(netlink.ConntrackTable)
}
