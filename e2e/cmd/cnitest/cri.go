package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/backend/cri"
)

const criBackend = "cri"

// criFlags are the flags about container runtimes.
type criFlags struct{ tools, oldTools string }

func (f *criFlags) add(flags *pflag.FlagSet) {
	f.addTo(flags, "with --backend cri")
	flags.StringVar(&f.oldTools, "old-cri-tools", "",
		"with --backend cri: such a directory with an earlier containerd, for the scenario runtime-upgraded")
}

// addTo adds the flags, which only something else makes useful.
func (f *criFlags) addTo(flags *pflag.FlagSet, with string) {
	flags.StringVar(&f.tools, "cri-tools", "",
		with+": directory of what make cri-tools builds, or make cri-1-tools or cri-17-tools for containerd 1.x "+
			"(default cri beside this program)")
}

// checkCRI checks the flags without the files.
func (f *runFlags) checkCRI() error {
	switch {
	case f.backend != criBackend && f.cri.tools != "":
		return fmt.Errorf("--cri-tools is for --backend %s, got --backend %s", criBackend, f.backend)
	case f.backend != criBackend && f.cri.oldTools != "":
		return fmt.Errorf("--old-cri-tools is for --backend %s, got --backend %s", criBackend, f.backend)
	case f.backend == criBackend && f.soak > 0:
		return errors.New("--soak calls plugins as a runtime does; leave out --backend cri")
	}
	return nil
}

// directory returns the directory of the tools.
func (f *criFlags) directory() string {
	if f.tools != "" {
		return f.tools
	}
	self, err := os.Executable()
	if err != nil {
		return "cri"
	}
	return filepath.Join(filepath.Dir(self), "cri")
}

// open opens the backend.
func (f *criFlags) open() (*cri.Backend, error) {
	return cri.Open(cri.Options{Tools: f.directory(), OldTools: f.oldTools, Command: []string{selfPath, agentCommand}})
}
