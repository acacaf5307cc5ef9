package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

// defaultBinDir is the directory in which runtimes look for plugins by default.
const defaultBinDir = "/opt/cni/bin"

// nodeFlags are the flags about the nodes, which run and lab share.
type nodeFlags struct {
	network            networkFlags
	uplink, uplinkKind string
	nics, rpFilter     int
	targetFile         string
	// target is the parsed target file.
	target *target.Target
	// existing is set if nodes are machines that nobody makes for the run.
	existing bool
}

func (f *nodeFlags) add(flags *pflag.FlagSet) {
	f.network.add(flags)
	flags.StringVar(&f.uplink, "uplink", "", "the nodes' interface on the underlay (default what the conflist names)")
	flags.StringVar(&f.uplinkKind, "uplink-kind", "veth",
		"kind of that interface: veth, bridge, dummy or vlan (of a trunk)")
	flags.IntVar(&f.nics, "nics", 1, "interfaces of a node: 2 puts a management network first")
	flags.StringVar(&f.targetFile, "target", "", "file that says what runs on each node besides the plugins, and its "+
		"cloud (default NAME.target.yaml beside NAME.conflist)")
	flags.IntVar(&f.rpFilter, "rp-filter", 2, "net.ipv4.conf.all.rp_filter of nodes and pods: 0, 1 or 2 (scenarios "+
		"may choose their own)")
}

// check finds out before a lab is made whether a network can be derived from the file.
func (f *nodeFlags) check(file *conflist.File, nodes []scenario.Node) error {
	if kinds := netns.UplinkKinds(); !slices.Contains(kinds, f.uplinkKind) {
		return fmt.Errorf("--uplink-kind %q: want one of %s", f.uplinkKind, strings.Join(kinds, ", "))
	}
	if err := inRange("nics", f.nics, 1, 2); err != nil {
		return err
	}
	if err := inRange("rp-filter", f.rpFilter, 0, 2); err != nil {
		return err
	}
	if err := f.loadTarget(file.Path); err != nil {
		return err
	}
	if err := f.network.check(); err != nil {
		return err
	}
	options := conflist.PlanOptions{Uplink: f.uplink, Subnets: f.network.lan, Gateways: f.network.routers}
	for _, n := range nodes {
		options.Nodes = append(options.Nodes, conflist.PlanNode{Name: n.Name})
	}
	plan, err := file.Plan(options)
	if err != nil {
		return err
	}
	if err := errors.Join(f.network.checkRouters(plan), f.checkCloud(file, options)); err != nil ||
		f.network.other == nil {
		return err
	}
	if f.target != nil && f.target.Cloud != nil {
		return errors.New("--with: the lab's cloud has one network; leave out --with or the target's cloud")
	}
	_, err = f.network.other.PlanBeside(plan)
	return err
}

// checkCloud finds out whether the network fits the cloud of the target file, if the lab makes one.
func (f *nodeFlags) checkCloud(file *conflist.File, options conflist.PlanOptions) error {
	if f.target == nil || f.target.Cloud == nil || f.existing {
		return nil
	}
	if f.uplinkKind != "veth" {
		return fmt.Errorf("--uplink-kind %s: the target file has a cloud, whose nodes have veth alone", f.uplinkKind)
	}
	options.Subnets, options.Gateways = []netip.Prefix{netns.CloudLAN(f.target.Cloud)}, nil
	if _, err := file.Plan(options); err != nil {
		return fmt.Errorf("%w; that is the cloud of the target file, VPC %s", err, f.target.Cloud.Network())
	}
	return nil
}

// targetSuffix ends the name of the target file beside a conflist.
const targetSuffix = ".target.yaml"

// loadTarget reads the target file that was named, or the one beside the conflist.
func (f *nodeFlags) loadTarget(list string) (err error) {
	path := f.targetFile
	if path == "" {
		path = strings.TrimSuffix(list, filepath.Ext(list)) + targetSuffix
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	f.target, err = target.Load(path)
	return err
}

// inRange returns an error that names the flag if a number is out of range.
func inRange(flag string, value, lowest, highest int) error {
	if value < lowest || value > highest {
		return fmt.Errorf("--%s %d: want %d to %d", flag, value, lowest, highest)
	}
	return nil
}

// isDir returns an error that names the flag if a path is not a directory.
func isDir(flag, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: %w; name the directory of the plugins' binaries", flag, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: %s is not a directory; name the directory of the plugins' binaries", flag, path)
	}
	return nil
}
