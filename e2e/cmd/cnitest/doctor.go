package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

func newDoctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can run, and what a missing piece costs",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("doctor: want no arguments, got %q", strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return asRoot(func() error { return doctor(cmd.Context(), cmd.OutOrStdout()) })
		},
	}
}

// sampleConflist needs no plugin: the doctor only makes the lab for it.
const sampleConflist = `{"cniVersion": "1.1.0", "name": "doctor", "plugins": [{"type": "macvlan", "master": "eth0",
"ipam": {"type": "host-local", "ranges": [[{"subnet": "192.0.2.0/24"}], [{"subnet": "2001:db8::/64"}]]}}]}`

// doctor makes a lab and looks into its nodes. Only a machine on which no lab can be made is unfit.
func doctor(ctx context.Context, out io.Writer) error {
	file, err := conflist.Parse("doctor", []byte(sampleConflist))
	if err != nil {
		return err
	}
	c, err := newBackend().Start(ctx, cluster.Request{Conflist: file, BinDir: os.TempDir(), Nodes: []scenario.Node{{Name: "a"}, {Name: "b"}}})
	if err != nil {
		return &exitError{exitUnfit, fmt.Errorf("no lab can be made here: %w", err)}
	}
	defer c.Close()
	node := c.Nodes()[0]
	hello, err := node.Agent.Hello(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(ok bool, what, cost string) {
		mark, text := "ok", ""
		if !ok {
			mark, text = "missing", cost
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, what, text)
	}
	row(true, "kernel "+hello.Kernel, "")
	row(true, "netns backend: two nodes, a router, a LAN host and an external host", "")
	kinds := []struct{ kind, cost string }{
		{"veth", "no lab can be made"},
		{"bridge", "no lab can be made"},
		{"macvlan", "conflists with macvlan cannot be run; modprobe macvlan"},
		{"ipvlan", "conflists with ipvlan cannot be run; modprobe ipvlan"},
		{"vlan", "conflists with vlan cannot be run; modprobe 8021q"},
		{"vrf", "conflists with vrf cannot be run; modprobe vrf"},
		{"dummy", "--uplink-kind dummy cannot be used; modprobe dummy"},
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
		row(!slices.Contains(missing, k.kind), "links of kind "+k.kind, k.cost)
	}
	return w.Flush()
}
