package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/backend/kind"
	"github.com/cnitest/cnitest/e2e/backend/ssh"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
)

// These are the backends.
const (
	netnsBackend = "netns"
	sshBackend   = "ssh"
)

// remoteFlags are the flags about machines that exist.
type remoteFlags struct {
	nodes                      []string
	configFile, subnet, reboot string
	outside                    string
	// network is the parsed subnet.
	network netip.Prefix
}

func (f *remoteFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.nodes, "nodes", nil,
		"with --backend ssh: the machines that are nodes a, b, …, as ssh knows them")
	flags.StringVar(&f.outside, "outside", "", "with --backend ssh: another machine, for the hosts around the "+
		"nodes; it becomes the router with the conflist's gateway address, which must be free")
	flags.StringVar(&f.configFile, "ssh-config", "",
		"with --backend ssh: configuration file of ssh (default the user's)")
	flags.StringVar(&f.subnet, "uplink-subnet", "", "with --backend ssh: network by which a machine's uplink is "+
		"found (default the conflist's)")
	flags.StringVar(&f.reboot, "reboot", "", "with --backend ssh: command that reboots a machine, such as 'systemctl "+
		"reboot'; without it no scenario reboots one")
}

// checkRemote checks the flags without the files.
func (f *runFlags) checkRemote() (err error) {
	r := &f.remote
	if f.backend != sshBackend {
		if len(r.nodes) > 0 || r.outside != "" || r.configFile != "" || r.subnet != "" || r.reboot != "" {
			return fmt.Errorf("--nodes, --outside, --ssh-config, --uplink-subnet and --reboot are for --backend %s, "+
				"got --backend %s", sshBackend, f.backend)
		}
		return nil
	}
	switch {
	case len(r.nodes) == 0:
		return errors.New("--backend ssh: name the machines with --nodes, e.g. --nodes node1,node2")
	case len(r.nodes) > 26:
		return fmt.Errorf("--nodes: want at most 26, got %d", len(r.nodes))
	case r.outside != "" && slices.Contains(r.nodes, r.outside):
		return fmt.Errorf("--outside %s: it is a node already; want another machine", r.outside)
	case f.workers > 1:
		return fmt.Errorf("--workers %d: there is only one set of machines; want 1", f.workers)
	case f.node.uplinkKind != "veth" || f.node.nics != 1:
		return errors.New("--uplink-kind and --nics are for nodes that are made; existing machines have what " +
			"they have")
	}
	if r.configFile != "" {
		if _, err := os.Stat(r.configFile); err != nil {
			return fmt.Errorf("--ssh-config: %w", err)
		}
	}
	if r.subnet != "" {
		if r.network, err = netip.ParsePrefix(r.subnet); err != nil {
			return fmt.Errorf("--uplink-subnet %q: want a network such as 10.77.0.0/16", r.subnet)
		}
	}
	return nil
}

// machinesExist reports whether the backend uses machines that it did not make.
func (f *runFlags) machinesExist() bool { return f.backend == sshBackend || f.backend == kindBackend }

// openBackend opens the backend that the flags name. The caller calls the returned function at the end; its error says
// what was not restored.
func (f *runFlags) openBackend(ctx context.Context, list *conflist.File) (cluster.Backend, func() error, error) {
	if f.backend == netnsBackend {
		return newBackend(), func() error { return nil }, nil
	}
	if f.node.target.API() != nil {
		return nil, nil, fmt.Errorf("the target file has `kubernetes`, an API that only --backend %s makes; remove it "+
			"there if the machines of --backend %s have an API server and a kubeconfig", netnsBackend, f.backend)
	}
	var backend interface {
		cluster.Backend
		Close() error
	}
	var err error
	switch f.backend {
	case criBackend:
		backend, err = f.cri.open()
	case kindBackend:
		backend, err = kind.Open(ctx, f.kindOptions(list))
	default:
		backend, err = ssh.Open(ctx, f.sshOptions(list))
	}
	switch s := signalOf(ctx); {
	case err != nil && s != nil:
		return nil, nil, &exitError{s.status(), s}
	case err != nil:
		return nil, nil, &exitError{exitUnfit, err}
	}
	return backend, backend.Close, nil
}

func (f *runFlags) sshOptions(list *conflist.File) ssh.Options {
	return ssh.Options{
		Nodes: f.remote.nodes, Outside: f.remote.outside, ConfigFile: f.remote.configFile, Conflist: list,
		BinDir: f.binDir, Subnet: f.remote.network, Uplink: f.node.uplink,
		Binary: binaryFor, Reboot: strings.Fields(f.remote.reboot), Log: func(text string) {
			fmt.Fprintln(os.Stderr, text)
		},
	}
}

// backendFlags returns the flags that choose the machines, for the commands of a report.
func (f *runFlags) backendFlags() []string {
	words := []string{"--backend", f.backend}
	for _, flag := range [][2]string{
		{"nodes", strings.Join(f.remote.nodes, ",")},
		{"outside", f.remote.outside},
		{"ssh-config", f.remote.configFile},
		{"uplink-subnet", f.remote.subnet},
		{"reboot", f.remote.reboot},
		{"kubeconfig", f.kind.kubeconfig},
		{"context", f.kind.kubeContext},
		{"image", f.kind.image},
		{"cri-tools", f.cri.tools},
		{"old-cri-tools", f.cri.oldTools},
		{"uplink", f.node.uplink},
	} {
		if flag[1] != "" {
			words = append(words, "--"+flag[0], flag[1])
		}
	}
	return words
}

// binaryFor returns this program, or a build of it for another architecture in the same directory.
func binaryFor(arch string) (string, error) {
	if arch == runtime.GOARCH {
		return selfPath, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "cnitest-linux-"+arch)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("want a cnitest for it at %s: CGO_ENABLED=0 GOARCH=%s go build -o %s ./e2e/cmd/cnitest",
			path, arch, path)
	}
	return path, nil
}

func newKeeperCommand() *cobra.Command {
	return &cobra.Command{
		Use:    ssh.KeeperCommand + " DIR",
		Short:  "Serve a run on an existing machine, on standard input and output (started by the ssh backend)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return ssh.KeeperMain(args[0], []string{selfPath, agentCommand})
		},
	}
}
