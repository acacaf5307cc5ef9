package contract

import (
	"context"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// sharedDirs are the directories in which everybody makes files.
func sharedDirs() []string { return []string{"/tmp/", "/var/tmp/", "/dev/shm/"} }

// changeableByOthers says why others than its owner may change a file, of which the text has the mode as ls prints it; empty
// if they may not.
func changeableByOthers(i snapshot.Item) string {
	mode, _, _ := strings.Cut(i.Text, " ")
	for _, dir := range sharedDirs() {
		if strings.HasPrefix(i.Name, dir) {
			return "everybody can make a file or link of that name there first"
		}
	}
	const others = 8 // the place of w for others
	link, sticky := strings.HasPrefix(strings.ToLower(mode), "l"), strings.ContainsAny(mode, "tT")
	if len(mode) > others && mode[others] == 'w' && !link && !sticky {
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
