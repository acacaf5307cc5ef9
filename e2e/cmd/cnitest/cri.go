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
type criFlags struct{ tools string }

func (f *criFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.tools, "cri-tools", "",
		"with --backend cri: directory of what make cri-tools builds (default cri beside this program)")
}

// checkCRI checks the flags without the files.
func (f *runFlags) checkCRI() error {
	switch {
	case f.backend != criBackend && f.cri.tools != "":
		return fmt.Errorf("--cri-tools is for --backend %s, got --backend %s", criBackend, f.backend)
	case f.backend == criBackend && f.soak > 0:
		return errors.New("--soak calls plugins as a runtime does; leave out --backend cri")
	}
	return nil
}

// open opens the backend.
func (f *criFlags) open() (*cri.Backend, error) {
	dir := f.tools
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(filepath.Dir(self), "cri")
	}
	return cri.Open(cri.Options{Tools: dir, Command: []string{selfPath, agentCommand}})
}
