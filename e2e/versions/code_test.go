package versions

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"

	"github.com/cnitest/cnitest/e2e/internal/testbin"
)

// TestHashOfCode changes a plugin of upstream's as another version of its module would, and in other ways.
func TestHashOfCode(t *testing.T) {
	dir := t.TempDir()
	if err := testbin.Build(dir, "github.com/containernetworking/plugins/plugins/main/ptp"); err != nil {
		t.Fatal(err)
	}
	plugin, err := os.ReadFile(filepath.Join(dir, "ptp"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.Read(bytes.NewReader(plugin))
	if err != nil {
		t.Fatal(err)
	}
	program, err := elf.NewFile(bytes.NewReader(plugin))
	if err != nil {
		t.Fatal(err)
	}
	m := info.Main
	// release returns the plugin as of a release in which only others changed.
	release := func() []byte {
		data := bytes.Clone(plugin)
		for _, text := range []string{"mod\t" + m.Path + "\t" + m.Version, m.Path + "@" + m.Version, m.Sum} {
			if !bytes.Contains(data, []byte(text)) {
				t.Fatalf("the plugin has no %q", text)
			}
			data = bytes.ReplaceAll(data, []byte(text), []byte(text[:len(text)-1]+"x"))
		}
		data[program.Section(".note.go.buildid").Offset+20] ^= 1
		return data
	}
	flipped := func(section string) []byte {
		data := bytes.Clone(plugin)
		data[program.Section(section).Offset+8] ^= 1
		return data
	}
	for _, tt := range []struct {
		name string
		data []byte
		same bool
	}{
		{"itself", plugin, true},
		{"another release", release(), true},
		{"other code", flipped(".text"), false},
		{"other data", flipped(".noptrdata"), false},
		{"another message", bytes.ReplaceAll(plugin, []byte("failed to"), []byte("failed xx")), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, err := hashOfCode(filepath.Join(dir, "ptp"))
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "ptp")
			if err := os.WriteFile(file, tt.data, 0o755); err != nil {
				t.Fatal(err)
			}
			got, err := hashOfCode(file)
			if err != nil || (got == want) != tt.same {
				t.Errorf("got %s, %v, and of the plugin itself %s; want the same: %t", got, err, want, tt.same)
			}
		})
	}
}
