package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

func newDoctorCommand() *cobra.Command {
	var (
		backend, binDir string
		k               kindFlags
	)
	cmd := &cobra.Command{
		Use:   "doctor [CONFLIST]",
		Short: "Say what this machine can run, and what a missing piece costs",
		Long: `Doctor makes a lab, examines its nodes and prints a line for each requirement of a run: ok, or
missing and what cannot run without it. It exits 3 only if no lab can be made at all.

With a conflist it also attaches a pod, as a run does before anything else, and says what the kernel
lacks for that, or which call it refused. It exits 3 if the kernel lacks something, and 1 if the pod
cannot be attached for another reason.`,
		Example: "  cnitest doctor\n  sudo cnitest doctor\n  cnitest doctor net.d/10-mynet.conflist --bin-dir bin\n  " +
			"cnitest doctor --backend kind",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("doctor: want one conflist at most, got %q too", args[1])
			}
			if len(args) > 0 && backend != netnsBackend {
				return fmt.Errorf("doctor: a conflist is tried with --backend %s alone", netnsBackend)
			}
			return k.check(backend)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch backend {
			case kindBackend:
				return doctorKind(cmd.Context(), k, cmd.OutOrStdout())
			case netnsBackend:
				return asRoot(func() error { return doctorNetns(cmd.Context(), args, binDir, cmd.OutOrStdout()) })
			}
			return fmt.Errorf("--backend %q: want %s or %s", backend, netnsBackend, kindBackend)
		},
	}
	cmd.Flags().StringVar(&backend, "backend", netnsBackend,
		"backend to check for: netns, or kind, whose cluster is examined if there is one")
	cmd.Flags().StringVar(&binDir, "bin-dir", defaultBinDir,
		"directory of the plugins' binaries, if a conflist is given")
	k.add(cmd.Flags())
	return cmd
}

// doctorNetns examines this machine, and tries a conflist if there is one. Mistakes in that are found first.
func doctorNetns(ctx context.Context, conflists []string, binDir string, out io.Writer) error {
	if len(conflists) == 0 {
		return doctor(ctx, out)
	}
	if err := isDir("--bin-dir", binDir); err != nil {
		return err
	}
	suite, err := e2e.New(e2e.Options{
		Conflist: conflists[0], BinDir: binDir, Backend: newBackend(), Profile: scenario.ProfileUnderlay,
	})
	if err != nil {
		return err
	}
	if err := doctor(ctx, out); err != nil {
		return err
	}
	return tryAttachment(ctx, suite, conflists[0], out)
}

// tryAttachment attaches a pod as a run does first, and returns why that does not work.
func tryAttachment(ctx context.Context, suite *e2e.Suite, file string, out io.Writer) error {
	f := findings{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	defer f.w.Flush()
	var unfit *cluster.UnfitError
	switch failure, err := suite.TryAttachment(ctx); {
	case errors.As(err, &unfit):
		f.add(false, "what "+file+" needs", "run exits 3: "+unfit.Reason)
		return &exitError{status: exitUnfit}
	case err != nil:
		return err
	case failure != nil:
		f.add(false, "a pod that is attached as "+file+" says", failure.Reason)
		return &exitError{status: exitNotConformant}
	}
	f.add(true, "a pod is attached as "+file+" says", "")
	return nil
}

// sampleConflist needs no plugin: doctor only makes the lab for it.
const sampleConflist = `{"cniVersion": "1.1.0", "name": "doctor", "plugins": [{"type": "macvlan", "master": "eth0",
"ipam": {"type": "host-local", "ranges": [[{"subnet": "192.0.2.0/24"}], [{"subnet": "2001:db8::/64"}]]}}]}`

// findings are the lines that doctor prints.
type findings struct{ w *tabwriter.Writer }

func (f findings) add(ok bool, what, cost string) {
	if ok {
		fmt.Fprintf(f.w, "ok\t%s\n", what)
	} else {
		fmt.Fprintf(f.w, "missing\t%s\t%s\n", what, cost)
	}
}

// doctor makes a lab and examines its nodes. A machine is unfit only if no lab can be made on it.
func doctor(ctx context.Context, out io.Writer) error {
	f := findings{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	defer f.w.Flush()
	who := "root"
	if netns.InUserNamespace() {
		who = "root in a user namespace"
	}
	f.add(true, who, "")
	f.add(true, "kernel "+kernelRelease(), "")
	_, err := os.Stat("/proc/sys/net/ipv6")
	f.add(err == nil, "IPv6", "no lab can be made: its nodes have both families; boot without ipv6.disable=1")

	file, err := conflist.Parse("doctor", []byte(sampleConflist))
	if err != nil {
		return err
	}
	request := cluster.Request{Conflist: file, BinDir: os.TempDir(), Nodes: []scenario.Node{{Name: "a"}, {Name: "b"}}}
	c, err := newBackend().Start(ctx, request)
	f.add(err == nil, "backend netns: two nodes, a router, a LAN host and an external host", "nothing can be run")
	if err != nil {
		return &exitError{exitUnfit, fmt.Errorf("no lab can be made here: %w", err)}
	}
	defer c.Close()
	for _, what := range snapshot.Missing() {
		f.add(false, what, "a plugin can leave none here, and none is compared")
	}
	node := c.Nodes()[0]
	if err := f.links(ctx, node); err != nil {
		return err
	}
	lacks, err := node.Agent.Lacks(ctx, fault.IPVS())
	if err != nil {
		return err
	}
	f.add(!lacks, "IPVS", "run exits 3 with --dataplane ipvs; modprobe ip_vs")
	return f.programs(ctx, node)
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// links checks the kinds of links that upstream plugins and the lab make.
func (f findings) links(ctx context.Context, node *cluster.Node) error {
	kinds := []struct{ kind, cost string }{
		{"veth", "no lab can be made; modprobe veth"},
		{"bridge", "no lab can be made; modprobe bridge"},
		{"macvlan", "run exits 3 on conflists with macvlan; modprobe macvlan"},
		{"ipvlan", "run exits 3 on conflists with ipvlan; modprobe ipvlan"},
		{"vlan", "run exits 3 with --uplink-kind vlan and on conflists with vlan; modprobe 8021q"},
		{"vrf", "run exits 3 on conflists with vrf; modprobe vrf"},
		{"dummy", "run exits 3 with --uplink-kind dummy and on conflists with dummy; modprobe dummy"},
	}
	var names []string
	for _, k := range kinds {
		names = append(names, k.kind)
	}
	missing, err := node.Agent.LinkKinds(ctx, names)
	if err != nil {
		return err
	}
	for _, k := range kinds {
		f.add(!slices.Contains(missing, k.kind), "links of kind "+k.kind, k.cost)
	}
	return nil
}

// programs checks for the programs that upstream plugins call; cnitest itself needs none.
func (f findings) programs(ctx context.Context, node *cluster.Node) error {
	found, err := node.Agent.Programs(ctx, []string{"iptables"})
	if err != nil {
		return err
	}
	f.add(len(found) > 0, "program iptables", "--dataplane iptables cannot be used, and plugins portmap and firewall, "+
		"and ptp and bridge with ipMasq, call it unless they use nftables; install iptables")
	return nil
}
