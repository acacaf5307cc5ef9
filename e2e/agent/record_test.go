package agent_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// LayOut removes what is not on the disk that it gets, and nothing outside of the disk.
func TestLayOut(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "disk")
	c, _ := serve(t, agent.Options{Files: []snapshot.FileTree{{Name: dir, FS: os.DirFS(dir)}}})
	for _, path := range []string{"disk/kept", "disk/gone/file", "disk/changed", "disk/dir/gone", "beside"} {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(parent, path)), 0o755))
		check(t, os.WriteFile(filepath.Join(parent, path), []byte("old"), 0o600))
	}
	check(t, c.LayOut(ctx(t), []agent.File{
		{Path: filepath.Join(dir, "dir"), Mode: fs.ModeDir | 0o755},
		{Path: filepath.Join(dir, "kept"), Mode: 0o600, Data: []byte("old")},
		{Path: filepath.Join(dir, "changed"), Mode: 0o600},
		{Path: filepath.Join(dir, "new/file"), Mode: 0o600, Data: []byte("x")},
	}))
	got := map[string]string{}
	check(t, filepath.WalkDir(parent, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			data, _ := os.ReadFile(path)
			path, _ = filepath.Rel(parent, path)
			got[path] = string(data)
		}
		return err
	}))
	want := map[string]string{"disk/kept": "old", "disk/changed": "", "disk/new/file": "x", "beside": "old"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
