package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/conflist"
)

// upgraded returns the programs of the chain and of its daemon of which OldBinDir has an earlier version.
func (o *Options) upgraded(file *conflist.File) ([]string, error) {
	if o.OldBinDir == "" {
		return nil, nil
	}
	wanted := file.Types()
	for _, p := range file.Plugins {
		if p.IPAM != "" {
			wanted = append(wanted, p.IPAM)
		}
	}
	if daemon := o.Target.GivenDaemon(); daemon != nil {
		wanted = append(wanted, filepath.Base(daemon.Command[0]))
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	entries, err := os.ReadDir(o.OldBinDir)
	if err != nil {
		return nil, fmt.Errorf("programs of an earlier version: %w; name their directory with --old-bin-dir", err)
	}
	var found []string
	for _, e := range entries {
		if !slices.Contains(wanted, e.Name()) {
			continue
		}
		if _, err := os.Stat(filepath.Join(o.BinDir, e.Name())); err != nil {
			return nil, fmt.Errorf("%s is in --old-bin-dir and not in --bin-dir: %w", e.Name(), err)
		}
		found = append(found, e.Name())
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("--old-bin-dir %s: it has none of %s; put there the earlier version of at least one of "+
			"them", o.OldBinDir, strings.Join(wanted, ", "))
	}
	return found, nil
}
