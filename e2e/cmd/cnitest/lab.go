package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

func validateConflist(out io.Writer, file string) error {
	f, err := conflist.Load(file)
	if err != nil {
		return err
	}
	for _, w := range f.Warnings {
		fmt.Fprintln(out, w)
	}
	_, err = fmt.Fprintf(out, "%s: valid conflist %q of CNI %s: %s\n", file, f.Network, f.CNIVersion, strings.Join(f.Types(), ", "))
	return err
}

// labPod is the namespace that a lab's nodes have from the start, for cnitool.
const labPod = "testing"

// labFlags are the flags of lab.
type labFlags struct {
	binDir, on, uplink, uplinkKind string
	nodes, nics, rpFilter          int
}

func newLabCommand() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use:   "lab CONFLIST [-- COMMAND [ARG…]]",
		Short: "Open a shell, or run a command, on a node of the lab that scenarios run on",
		Long: `Lab makes nodes a, b, … with the conflist in /etc/cni/net.d and the plugins in /opt/cni/bin, each with an empty pod namespace
/var/run/netns/testing, and runs a shell or a command on one of them. All of it is gone when the command ends.

NETCONFPATH and CNI_PATH are set, so that cnitool needs no options.`,
		Example: `  cnitest lab my.conflist --bin-dir bin
  cnitest lab my.conflist --bin-dir bin -- cnitool add mynet /var/run/netns/testing
  cnitest lab my.conflist --bin-dir bin --on host/lan -- ip neigh`,
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); n > 1 || (n < 0 && len(args) != 1) || len(args) == 0 {
				return errors.New("lab: want the path of one conflist, and a command after --")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return asRoot(func() error { return f.run(cmd.Context(), args[0], args[1:]) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.binDir, "bin-dir", "/opt/cni/bin", "directory of the plugins' binaries, delegated ones included")
	flags.StringVar(&f.on, "on", "node/a", "where to run: node/a, node/b, …, host/lan, host/router, host/external")
	flags.IntVar(&f.nodes, "nodes", 2, "number of nodes")
	flags.IntVar(&f.nics, "nics", 1, "interfaces of a node: 2 puts a management network first")
	flags.IntVar(&f.rpFilter, "rp-filter", 2, "net.ipv4.conf.all.rp_filter of the nodes: 0, 1 or 2")
	flags.StringVar(&f.uplink, "uplink", "", "the nodes' interface on the underlay (default what the conflist names)")
	flags.StringVar(&f.uplinkKind, "uplink-kind", "veth", "kind of that interface: veth, bridge or dummy")
	return cmd
}

func (f *labFlags) run(ctx context.Context, file string, command []string) error {
	list, err := conflist.Load(file)
	if err != nil {
		return err
	}
	if f.nodes < 1 || f.nodes > 26 {
		return fmt.Errorf("--nodes %d: want 1 to 26", f.nodes)
	}
	req := cluster.Request{Conflist: list, BinDir: f.binDir, Uplink: f.uplink, UplinkKind: f.uplinkKind}
	for i := range f.nodes {
		req.Nodes = append(req.Nodes, scenario.Node{Name: string(rune('a' + i)), NICs: f.nics, RPFilter: &f.rpFilter})
	}
	c, err := newBackend().Start(ctx, req)
	if err != nil {
		return &exitError{exitUnfit, err}
	}
	defer c.Close()
	for _, node := range c.Nodes() {
		if _, err := node.Agent.CreateNamespace(ctx, labPod); err != nil {
			return err
		}
	}
	place, err := findPlace(c, f.on)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		command = []string{shell(), "-i"}
		fmt.Fprintln(os.Stderr, "a shell on "+place.Name+"; exit ends the lab. From other terminals, as root:")
		for _, line := range waysIn(c) {
			fmt.Fprintln(os.Stderr, "  "+line)
		}
	}
	enterer, ok := c.(netns.Enterer)
	if !ok {
		return fmt.Errorf("backend %s: its places cannot be entered", newBackend().Name())
	}
	err = enterer.Enter(ctx, place, netns.Program{
		Argv: command, Env: labEnv(place.Name), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &exitError{status: max(1, exit.ExitCode())}
	}
	return err
}

func shell() string {
	if s := os.Getenv("SHELL"); s != "" {
		return s
	}
	return "/bin/sh"
}

func labEnv(place string) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "PATH=") || strings.HasPrefix(e, "CNI_PATH=") || strings.HasPrefix(e, "NETCONFPATH=")
	})
	return append(env, "PATH="+netns.BinDir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "CNI_PATH="+netns.BinDir, "NETCONFPATH="+netns.ConflistDir, "PS1="+place+"# ")
}

func places(c cluster.Cluster) []*cluster.Place {
	var all []*cluster.Place
	for _, n := range c.Nodes() {
		all = append(all, &n.Place)
	}
	for _, name := range scenario.HostNames() {
		if h, ok := c.Hosts()[name]; ok {
			all = append(all, h)
		}
	}
	return all
}

func findPlace(c cluster.Cluster, name string) (*cluster.Place, error) {
	var names []string
	for _, p := range places(c) {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return nil, fmt.Errorf("--on %q: want one of %s", name, strings.Join(names, ", "))
}

// waysIn are commands that enter each place of a cluster.
func waysIn(c cluster.Cluster) []string {
	enterer, ok := c.(netns.Enterer)
	if !ok {
		return nil
	}
	var lines []string
	for _, p := range places(c) {
		lines = append(lines, fmt.Sprintf("%-14s %s", p.Name, enterer.WayIn(p)))
	}
	return lines
}
