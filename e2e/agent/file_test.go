package agent_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

func TestWriteFile(t *testing.T) {
	c := start(t)
	dir := t.TempDir()
	for _, path := range []string{"file", "dir/with", "replaced/by-a-file", "opaque/old"} {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, path), []byte("old content"), 0o644))
	}
	check(t, os.Symlink("/nowhere", filepath.Join(dir, "link")))
	// Files must have their modes whatever the umask.
	defer unix.Umask(unix.Umask(0o077))
	for _, file := range []agent.File{
		{Path: "file", Mode: 0o666, Data: []byte("new")},
		{Path: "link", Mode: fs.ModeSymlink | 0o777, Data: []byte("/somewhere")},
		{Path: "new/parents/file", Mode: 0o4755 & fs.ModePerm, Data: []byte("deep")},
		{Path: "setuid", Mode: fs.ModeSetuid | 0o755, Data: []byte("x")},
		{Path: "dir", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "replaced", Mode: 0o600, Data: []byte("a file")},
		{Path: "opaque", Mode: fs.ModeDir | 0o711, Opaque: true},
		{Path: "gone", Deleted: true},
		{Path: "dir/gone/too", Deleted: true},
	} {
		file.Path = filepath.Join(dir, file.Path)
		check(t, c.WriteFile(ctx(t), file))
	}
	want := map[string]string{
		"file": "-rw-rw-rw- new", "link": "Lrwxrwxrwx /somewhere", "new": "drwx------ ", "new/parents": "drwx------ ",
		"new/parents/file": "-rwxr-xr-x deep", "setuid": "urwxr-xr-x x", "dir": "dtrwxrwxrwx ",
		"dir/with": "-rw-r--r-- old content",
		"replaced": "-rw------- a file", "opaque": "drwx--x--x ",
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	err := c.WriteFile(ctx(t), agent.File{Path: filepath.Join(dir, "pipe"), Mode: fs.ModeNamedPipe | 0o600})
	wantError(t, err, "node/a: "+dir+"/pipe: want a regular file, a directory or a symbolic link, got prw-------")
}

// tree returns everything below a directory, with modes and contents.
func tree(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	files := map[string]string{}
	check(tb, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var content []byte
		switch info.Mode().Type() {
		case 0:
			content, err = os.ReadFile(path)
		case fs.ModeSymlink:
			var target string
			target, err = os.Readlink(path)
			content = []byte(target)
		}
		name, relErr := filepath.Rel(dir, path)
		check(tb, relErr)
		files[name] = info.Mode().String() + " " + string(content)
		return err
	}))
	return files
}

func TestReadFile(t *testing.T) {
	c := start(t)
	dir := t.TempDir()
	check(t, c.WriteFile(ctx(t), agent.File{Path: dir + "/sub/file", Mode: 0o600, Data: []byte{0, 0xff, '\n'}}))
	got, err := c.ReadFile(ctx(t), dir+"/sub/file")
	check(t, err)
	want := agent.FileReply{Found: true, File: agent.File{Path: dir + "/sub/file", Data: []byte{0, 0xff, '\n'}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	got, err = c.ReadFile(ctx(t), dir+"/none")
	check(t, err)
	if diff := cmp.Diff(agent.FileReply{}, got); diff != "" {
		t.Errorf("no file (-want +got):\n%s", diff)
	}
	_, err = c.ReadFile(ctx(t), dir)
	wantError(t, err, "node/a: read "+dir+": is a directory")

	names, err := c.ListDir(ctx(t), dir)
	check(t, err)
	if diff := cmp.Diff([]string{"sub"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	names, err = c.ListDir(ctx(t), dir+"/none")
	check(t, err)
	if diff := cmp.Diff([]string{}, names); diff != "" {
		t.Errorf("names of nothing (-want +got):\n%s", diff)
	}
	for range 2 {
		check(t, c.RemoveFile(ctx(t), dir+"/sub/file"))
	}
	names, err = c.ListDir(ctx(t), dir+"/sub")
	check(t, err)
	if diff := cmp.Diff([]string{}, names); diff != "" {
		t.Errorf("names after the removal (-want +got):\n%s", diff)
	}
}

// Files read from the upper layer of an overlay, and written to another overlay with the same lower layer, look the
// same there.
func TestDisk(t *testing.T) {
	lower := t.TempDir()
	for _, path := range []string{
		"deleted", "kept", "changed", "opaque/old", "deleted-dir/old", "now-a-file/old", "now-a-dir",
	} {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(lower, path)), 0o755))
		check(t, os.WriteFile(filepath.Join(lower, path), []byte("old"), 0o644))
	}
	first, upper := overlay(t, lower)
	shell(t, first, `rm deleted && echo -n new > changed && rm -r opaque && mkdir opaque && echo -n new > opaque/new && rm -r deleted-dir &&
		rm -r now-a-file && echo -n file > now-a-file && rm now-a-dir && mkdir now-a-dir &&
		ln -s target link && mkdir -m 700 private && mkfifo pipe`)
	disk, _ := serve(t, agent.Options{Files: []snapshot.FileTree{
		{Name: "/", FS: os.DirFS(upper)}, {Name: "/run", FS: os.DirFS(lower)}, {Name: "/tmp", FS: os.DirFS(lower)},
	}})
	files, err := disk.Disk(ctx(t))
	check(t, err)
	second, _ := overlay(t, lower)
	for _, file := range files {
		file.Path = filepath.Join(second, file.Path)
		check(t, disk.WriteFile(ctx(t), file))
	}
	want := tree(t, first)
	delete(want, "pipe")
	if diff := cmp.Diff(want, tree(t, second)); diff != "" {
		t.Errorf("the second overlay (-first +second):\n%s", diff)
	}
	if got, want := want["opaque/new"], "-rw-r--r-- new"; got != want {
		t.Errorf("got %q on the first, want %q", got, want)
	}
}

// overlay mounts a writable view of a directory.
func overlay(tb testing.TB, lower string) (merged, upper string) {
	tb.Helper()
	dir := tb.TempDir()
	check(tb, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	merged, upper = dir+"/merged", dir+"/upper"
	for _, d := range []string{merged, upper, dir + "/work"} {
		check(tb, os.Mkdir(d, 0o755))
	}
	check(tb, unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+dir+"/work"))
	tb.Cleanup(func() {
		check(tb, unix.Unmount(merged, 0))
		check(tb, unix.Unmount(dir, 0))
	})
	return merged, upper
}

func shell(tb testing.TB, dir, script string) {
	tb.Helper()
	reply, err := start(tb).Command(ctx(tb), agent.CommandArgs{
		Argv: []string{"/bin/sh", "-c", "cd " + dir + " && " + script},
	})
	check(tb, err)
	if reply.ExitCode != 0 {
		tb.Fatalf("%s: exit status %d: %s", script, reply.ExitCode, reply.Output)
	}
}
