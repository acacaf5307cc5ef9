package netns

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// StartShared starts an agent like those of this backend's nodes, but in the network namespace of the calling process:
// it is for machines that are nodes themselves. The agent sees the machine's links, and nothing that it writes reaches
// the machine's disk. command is like Backend.Command.
//
// The agent ends with its input. Killing the returned process ends everything in its namespaces; the network then stays
// as it is.
func StartShared(command []string, hostname string, binds []Bind, stdin io.Reader, stdout,
	stderr io.Writer,
) (*exec.Cmd, error) {
	config, err := json.Marshal(childConfig{Hostname: hostname, Binds: binds})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(command[0], append(append([]string{}, command[1:]...), string(config))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: machineNamespaces &^ unix.CLONE_NEWNET, Setpgid: true}
	cmd.Env = nodeEnv(os.Environ(), hostname)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	return cmd, cmd.Start()
}
