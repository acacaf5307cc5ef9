package contract

import (
	"context"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// sharedDirs are the directories in which everybody makes files.
func sharedDirs() []string { return []string{"/tmp/", "/var/tmp/", "/dev/shm/"} }

// changeableByOthers says why others than its owner may change a file, whose text begins with its mode as package fs
// prints it: letters for the type, then nine for the permissions. It is empty if they may not.
func changeableByOthers(i snapshot.Item) string {
	mode, _, _ := strings.Cut(i.Text, " ")
	for _, dir := range sharedDirs() {
		if strings.HasPrefix(i.Name, dir) {
			return "everybody can make a file or link of that name there first"
		}
	}
	others := len(mode) - 2 // the place of w for others
	link, sticky := strings.HasPrefix(mode, "L"), strings.Contains(mode, "t")
	if others > 0 && mode[others] == 'w' && !link && !sticky {
		return "its mode is " + mode
	}
	return ""
}

func checkModes(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	files := 0
	for _, c := range l.made {
		if c.Op != snapshot.Added || c.Item.Kind != snapshot.File || c.Item.Scope != "" {
			continue
		}
		files++
		if why := changeableByOthers(c.Item); why != "" {
			t.wrong([]cni.Call{l.add}, "ADD makes %s, which every user of the node may change: %s", c.Item.Name, why)
		}
	}
	if files == 0 {
		return notApplicable("ADD makes no files")
	}
	return nil
}
