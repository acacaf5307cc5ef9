package main

import (
	"errors"
	"fmt"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// ownFlags name scenarios that do not come with cnitest.
type ownFlags struct {
	// files are paths of files and directories, own the scenarios in them.
	files []string
	own   []*scenario.Scenario
}

// readOwn reads the scenarios of --scenario-file.
func (f *ownFlags) readOwn() (err error) {
	if f.own, err = scenario.LoadFiles(f.files...); err != nil {
		return fmt.Errorf("--scenario-file: %w", err)
	}
	known, err := contract.IDs()
	for _, sc := range f.own {
		err = errors.Join(err, sc.CheckCovers(known))
	}
	return err
}
