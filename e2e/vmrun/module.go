package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// moduleDirs are the directories of a kernel's modules that are useful on a machine without hardware of its own.
// Modules that they need are added.
var moduleDirs = []string{
	"kernel/net", "kernel/drivers/net", "kernel/crypto", "kernel/arch", "kernel/lib", "kernel/fs/overlayfs",
}

// module is a kernel module, as its section .modinfo describes it.
type module struct {
	name, path string
	aliases    []string // without aliases of buses
	needs      []string
}

// modules are all modules of a kernel, by name.
type modules map[string]*module

// readModules reads the modules below a directory. It decompresses the files there if they are compressed.
func readModules(dir string) (modules, error) {
	if err := decompress(dir); err != nil {
		return nil, err
	}
	all := modules{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".ko" {
			return err
		}
		m, err := readModule(path)
		if err == nil {
			all[m.name] = m
		}
		return err
	})
	return all, err
}

// decompress decompresses the modules of newer Debian kernels.
func decompress(dir string) error {
	for extension, program := range map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"} {
		var found []string
		if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, ".ko"+extension) {
				found = append(found, path)
			}
			return err
		}); err != nil {
			return err
		}
		for some := range slices.Chunk(found, 200) {
			if out, err := exec.Command(program, append([]string{"-d", "-q", "-f"},
				some...)...).CombinedOutput(); err != nil {
				return fmt.Errorf("decompress modules with %s: %w: %s", program, err, out)
			}
		}
	}
	return nil
}

func readModule(path string) (*module, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s: no section .modinfo", path)
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m := &module{name: sameName(strings.TrimSuffix(filepath.Base(path), ".ko")), path: path}
	for _, field := range bytes.Split(data, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch key {
		case "depends":
			m.needs = append(m.needs, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case "softdep":
			if pre, ok := strings.CutPrefix(value, "pre:"); ok {
				pre, _, _ = strings.Cut(pre, "post:")
				m.needs = append(m.needs, strings.Fields(pre)...)
			}
		case "alias":
			// "pci:v00001AF4d…" names hardware
			if !strings.Contains(value, ":") {
				m.aliases = append(m.aliases, sameName(value))
			}
		}
	}
	return m, nil
}

// named returns the modules with a name or an alias.
func (all modules) named(name string) []*module {
	name = sameName(name)
	if m := all[name]; m != nil {
		return []*module{m}
	}
	var found []*module
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if slices.Contains(all[key].aliases, name) {
			found = append(found, all[key])
		}
	}
	return found
}

// order returns a module after all modules that it needs. Those that do not exist are part of the kernel.
func (all modules) order(m *module) []*module {
	var ordered []*module
	seen := map[*module]bool{}
	var visit func(*module)
	visit = func(m *module) {
		if seen[m] {
			return
		}
		seen[m] = true
		for _, need := range m.needs {
			for _, other := range all.named(need) {
				visit(other)
			}
		}
		ordered = append(ordered, m)
	}
	visit(m)
	return ordered
}

// pack writes the modules of moduleDirs, the modules that they need, and the index.
func (all modules) pack(a *archive, dir string) error {
	taken := map[*module]bool{}
	var index strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		if !slices.ContainsFunc(moduleDirs, func(part string) bool {
			return strings.HasPrefix(m.path, filepath.Join(dir, part)+"/")
		}) {
			continue
		}
		var files []string
		for _, part := range all.order(m) {
			taken[part] = true
			files = append(files, filepath.Base(part.path))
		}
		for _, called := range append([]string{m.name}, m.aliases...) {
			fmt.Fprintf(&index, "%s %s\n", called, strings.Join(files, " "))
		}
	}
	for m := range taken {
		data, err := os.ReadFile(m.path)
		if err != nil {
			return err
		}
		a.data(filepath.Join(machineRoot+modulesDir, filepath.Base(m.path)), 0o644, data)
	}
	a.data(machineRoot+moduleIndex, 0o644, []byte(index.String()))
	return a.close()
}
