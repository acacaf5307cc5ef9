package sysctl_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/sysctl"
)

// Read returns what os.ReadFile does, for each setting that has a value of its own.
func TestRead(t *testing.T) {
	read := 0
	err := filepath.WalkDir(filepath.Join(sysctl.Root, "ipv4"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, wantErr := os.ReadFile(path)
		got, ok, err := sysctl.Read(path)
		if err != nil || ok != (wantErr == nil) {
			t.Errorf("%s: got %t and %v, want what os.ReadFile says: %v", path, ok, err, wantErr)
		}
		if ok && got != strings.Join(strings.Fields(string(want)), " ") {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
		read++
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil || read < 20 {
		t.Errorf("got %d settings and %v, want 20 or more", read, err)
	}
}

func TestReadAt(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.WriteFile(filepath.Join(dir.Name(), "tcp_mem"), []byte("1\t22\t 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir.Name(), "conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		ok         bool
		err        error
	}{
		{"tcp_mem", "1 22 3", true, nil},
		{"of-a-link-that-was-removed", "", false, nil},
		{"conf", "", false, unix.EISDIR},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok, err := sysctl.ReadAt(int(dir.Fd()), tt.name)
			if got != tt.want || ok != tt.ok || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %t, %v, want %q, %t, %v", got, ok, err, tt.want, tt.ok, tt.err)
			}
		})
	}
}
