package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// labPod is the namespace that a lab's nodes have from the start, for cnitool.
const labPod = "testing"

// toolDir contains this program as cnitool on the nodes of a lab. It comes after the plugins' directory in PATH, so
// that a cnitool there has precedence.
const toolDir = "/opt/cni/tools"

// labFlags are the flags of lab.
type labFlags struct {
	binDir, on string
	nodes      int
	node       nodeFlags
}

func newLabCommand() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use:   "lab CONFLIST [-- COMMAND [ARG…]]",
		Short: "Open a shell, or run a command, on a node of the lab that scenarios run on",
		Long: `Lab makes nodes a, b, … with the conflist in /etc/cni/net.d and the plugins in /opt/cni/bin, each
with an empty pod namespace /var/run/netns/testing, and runs a shell or a command on one of them.
Everything is removed when that ends.

NETCONFPATH and CNI_PATH are set, so that cnitool needs no options. If --bin-dir has no cnitool,
cnitest acts as cnitool. It takes the name of the network in the conflist. The exit status is that of
the command.`,
		Example: `  cnitest lab my.conflist --bin-dir bin
  cnitest lab my.conflist --bin-dir bin -- cnitool add mynet /var/run/netns/testing
  cnitest lab my.conflist --bin-dir bin -- sh -c 'cnitool add mynet /var/run/netns/testing && ip route'
  cnitest lab my.conflist --bin-dir bin --on host/lan -- ip neigh
  cnitest lab my.conflist --bin-dir bin --nics 2 --rp-filter 1 --on node/b`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch n := cmd.ArgsLenAtDash(); {
			case n < 0 && len(args) > 1:
				return fmt.Errorf("lab: want one conflist, got %q too; a command goes after --", args[1])
			case len(args) == 0, n == 0:
				return errors.New("lab: want the path of a conflist; see cnitest lab --help")
			case n > 1:
				return fmt.Errorf("lab: want one conflist before --, got %d arguments", n)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return asRoot(func() error { return f.run(cmd.Context(), args[0], args[1:]) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.binDir, "bin-dir", defaultBinDir,
		"directory of the plugins' binaries, including those they delegate to")
	flags.StringVar(&f.on, "on", "node/a", "where to run: node/a, node/b, …, pod/testing@a, …, host/lan, "+
		"host/router, host/external")
	flags.IntVar(&f.nodes, "nodes", 2, "number of nodes")
	f.node.add(flags)
	return cmd
}

// request checks the flags and the file.
func (f *labFlags) request(file string) (cluster.Request, error) {
	var req cluster.Request
	if err := inRange("nodes", f.nodes, 1, 100); err != nil {
		return req, err
	}
	list, err := f.node.network.load(file)
	if err != nil {
		return req, err
	}
	if err := isDir("--bin-dir", f.binDir); err != nil {
		return req, err
	}
	self, err := os.Executable()
	if err != nil {
		return req, err
	}
	req = cluster.Request{
		Conflist: list, BinDir: f.binDir, Programs: map[string]string{filepath.Join(toolDir, cnitoolName): self},
		Uplink: f.node.uplink, UplinkKind: f.node.uplinkKind,
	}
	for i := range f.nodes {
		req.Nodes = append(req.Nodes, scenario.Node{
			Name: scenario.NodeName(i), NICs: f.node.nics, RPFilter: &f.node.rpFilter,
		})
	}
	if err := f.node.check(list, req.Nodes); err != nil {
		return req, err
	}
	req.Target, req.Lease, req.Subnets, req.Gateways = cluster.WithDHCP(req.Conflist, f.node.target),
		f.node.network.lease, f.node.network.lan, f.node.network.routers
	return req, nil
}

func (f *labFlags) run(ctx context.Context, file string, command []string) error {
	req, err := f.request(file)
	if err != nil {
		return err
	}
	ctx, stop := labSignals(ctx)
	defer stop()
	c, err := newBackend().Start(ctx, req)
	if err != nil {
		return labEnd(ctx, &exitError{exitUnfit, err})
	}
	defer c.Close()
	for _, node := range c.Nodes() {
		if _, err := node.Agent.CreateNamespace(ctx, labPod); err != nil {
			return labEnd(ctx, err)
		}
	}
	place, err := findPlace(ctx, c, f.on)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		greet(ctx, os.Stderr, c, place, req.Conflist.Network)
	}
	return labEnd(ctx, enter(ctx, c, place, command))
}

// labSignals leaves the interrupt of a terminal to the command that runs there.
func labSignals(ctx context.Context) (context.Context, func()) {
	if !hasTerminal() {
		return untilSignal(ctx, os.Interrupt, syscall.SIGTERM)
	}
	// The signal is not ignored, since the command would inherit that (execve(2)).
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	return untilSignal(ctx, syscall.SIGTERM)
}

// labEnd turns the outcome of a lab's command into that of this program.
func labEnd(ctx context.Context, err error) error {
	if s := signalOf(ctx); s != nil {
		return &exitError{s.status(), fmt.Errorf("lab: %w", s)}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &exitError{status: statusOf(exit)}
	}
	return err
}

// enter runs a command in a place, or a shell if there is none, and takes the terminal back from it.
func enter(ctx context.Context, c cluster.Cluster, place *cluster.Place, command []string) error {
	enterer, ok := c.(netns.Enterer)
	if !ok {
		return fmt.Errorf("backend %s: its places cannot be entered", newBackend().Name())
	}
	program := netns.Program{
		Argv: command, Env: labEnv(place.Name), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if len(command) == 0 {
		program.Argv = []string{shell(), "-i"}
		program.Foreground = inForeground()
	}
	if inForeground() {
		// In the background, where a shell puts this process, the call would stop it (tcsetpgrp(3)).
		signal.Ignore(syscall.SIGTTOU)
		defer func() { _ = unix.IoctlSetPointerInt(unix.Stdin, unix.TIOCSPGRP, unix.Getpgrp()) }()
	}
	err := enterer.Enter(ctx, place, program)
	if err != nil {
		return fmt.Errorf("%s: %w", place.Name, err)
	}
	return nil
}

// inForeground reports whether standard input is the terminal of this process, and this its foreground process group.
func inForeground() bool {
	group, err := unix.IoctlGetInt(unix.Stdin, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func shell() string {
	if s := os.Getenv("SHELL"); s != "" {
		return s
	}
	return "/bin/sh"
}

func labEnv(place string) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains([]string{"PATH", "CNI_PATH", "NETCONFPATH", "PS1"}, name)
	})
	path := strings.Join([]string{netns.BinDir, toolDir, os.Getenv("PATH"), "/usr/sbin", "/sbin"}, ":")
	return append(env, "PATH="+path, "CNI_PATH="+netns.BinDir, "NETCONFPATH="+netns.ConflistDir, "PS1="+place+"# ")
}

// greet prints what can be done in the shell of a lab.
func greet(ctx context.Context, out io.Writer, c cluster.Cluster, place *cluster.Place, network string) {
	fmt.Fprintf(out, "a shell on %s; exit ends the lab. Try: cnitool add %s /var/run/netns/%s\nfrom another "+
		"terminal%s:\n", place.Name, network, labPod, asWhom())
	printWaysIn(ctx, out, c)
}
