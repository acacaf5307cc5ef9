package record

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestWritable(t *testing.T) {
	file := func(path string) func(string) error {
		return func(root string) error {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(root, path), nil, 0o755)
		}
	}
	mount := func(flags uintptr, options string) func(string) error {
		return func(root string) error {
			if err := os.MkdirAll(root, 0o755); err != nil {
				return err
			}
			return unix.Mount("tmpfs", root, "tmpfs", flags, options)
		}
	}
	for _, tt := range []struct {
		name   string
		before func(root string) error
		mounts bool
		want   string // ROOT stands for the store's
	}{
		{name: "nothing there"},
		{name: "store of another network", before: func(root string) error { return os.MkdirAll(filepath.Join(root, "route/other"), 0o755) }},
		{name: "network's directory", before: func(root string) error { return os.MkdirAll(filepath.Join(root, "route/net"), 0o755) }},
		{name: "file in place of the network", before: file("route/net"), want: "ROOT/route/net is a file, want a directory: remove it"},
		{name: "file in place of the store", before: file("route"), want: "ROOT/route is a file, want a directory: remove it"},
		{name: "file in place of the root", before: file(""), want: "ROOT is a file, want a directory: remove it"},
		{name: "read-only", before: mount(unix.MS_RDONLY, ""), mounts: true, want: "ROOT: read-only file system"},
		{name: "no limits", before: mount(0, "size=0,nr_inodes=0"), mounts: true},
		{name: "no inodes left", before: mount(0, "nr_inodes=1"), mounts: true, want: "ROOT: no space left on device"},
		{name: "no room left", before: func(root string) error {
			if err := mount(0, "size=8k")(root); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(root, "full"), make([]byte, 8192), 0o600)
		}, mounts: true, want: "ROOT: no space left on device"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "cni")
			if tt.mounts {
				ownMounts(t, root)
			}
			if tt.before != nil {
				if err := tt.before(root); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, root)
			got := ""
			if err := Writable(Options{Root: root, Plugin: "route"}, "net"); err != nil {
				got = strings.ReplaceAll(err.Error(), root, "ROOT")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tree(t, root)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if saved := save(t, root); (saved == nil) != (tt.want == "") {
				t.Errorf("save: got %v, want it to agree", saved)
			}
		})
	}
}

// ownMounts gives the test's thread a mount namespace, which ends with the thread. The file system mounted at dir is
// unmounted before that.
func ownMounts(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for mounts")
	}
	runtime.LockOSThread() // never unlocked
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// save saves a record as ADD does.
func save(t *testing.T, root string) error {
	s, err := Open[state](t.Context(), Options{Root: root, Plugin: "route", Create: true})
	if err != nil {
		return err
	}
	a := Attachment{"net", "c1", "eth0"}
	defer s.Close()
	return s.Save(Entry[state]{a, 1, time.Time{}, state{}})
}

// Writable takes no lock, and the store comes and goes meanwhile.
func TestWritable_beside_others(t *testing.T) {
	root := filepath.Join(t.TempDir(), "cni")
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			s, err := Open[state](t.Context(), Options{Root: root, Plugin: "route", Create: true})
			if err != nil {
				done <- err
				return
			}
			a := Attachment{"net", "c1", "eth0"}
			if err := errors.Join(s.Save(Entry[state]{a, 1, time.Time{}, state{}}), s.Remove(a),
				s.Close()); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 2000 {
		if err := Writable(Options{Root: root, Plugin: "route"}, "net"); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	held := open(t, root)
	defer held.Close()
	if err := Writable(Options{Root: root, Plugin: "route"}, "net"); err != nil {
		t.Errorf("with the lock held: %v", err)
	}
}
