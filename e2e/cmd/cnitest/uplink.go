package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// defaultBinDir is where runtimes look for plugins unless they are told otherwise.
const defaultBinDir = "/opt/cni/bin"

// uplinkFlags are the flags about the nodes' interface on the underlay, which run and lab share.
type uplinkFlags struct{ name, kind string }

func (f *uplinkFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.name, "uplink", "", "the nodes' interface on the underlay (default what the conflist names)")
	flags.StringVar(&f.kind, "uplink-kind", "veth", "kind of that interface: veth, bridge or dummy")
}

// check finds out before any lab is made whether a network can be derived from the file.
func (f *uplinkFlags) check(file *conflist.File, nodes []scenario.Node) error {
	kinds := []string{"veth", "bridge", "dummy"}
	if !slices.Contains(kinds, f.kind) {
		return fmt.Errorf("--uplink-kind %q: want one of %s", f.kind, strings.Join(kinds, ", "))
	}
	options := conflist.PlanOptions{Uplink: f.name}
	for _, n := range nodes {
		options.Nodes = append(options.Nodes, conflist.PlanNode{Name: n.Name})
	}
	_, err := file.Plan(options)
	return err
}

// isDir says in terms of the flag why a path is no directory.
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
