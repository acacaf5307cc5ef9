package ssh

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/backend/internal/keeper"
	"github.com/cnitest/cnitest/e2e/cluster"
)

// plugins contains the programs of a directory, by name.
type plugins struct {
	files map[string]keeper.File
	arch  map[string]string // of programs for one architecture
	// upstream contains the names of the reference plugins. There are many, they are large, and few of them are used.
	upstream map[string]bool
}

// upstreamModule is the module of the reference plugins.
const upstreamModule = "github.com/containernetworking/plugins/"

// elfArchs contains Go's names of architectures.
var elfArchs = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_RISCV: "riscv64", elf.EM_PPC64: "ppc64le",
	elf.EM_S390: "s390x",
}

// machineArchs contains Go's names for the architectures that `uname -m` prints.
var machineArchs = map[string]string{
	"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x",
}

// findPlugins returns the programs of a directory. Builds of cnitest itself in the directory are not plugins.
func findPlugins(dir string) (*plugins, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("plugin binaries: %w", err)
	}
	found := &plugins{files: map[string]keeper.File{}, arch: map[string]string{}, upstream: map[string]bool{}}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 ||
			strings.HasPrefix(entry.Name(), "cnitest") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("plugin binaries: %w", err)
		}
		sum := sha256.Sum256(data)
		found.files[entry.Name()] = keeper.File{Path: path, Sum: hex.EncodeToString(sum[:])}
		if file, err := elf.NewFile(bytes.NewReader(data)); err == nil {
			found.arch[entry.Name()] = elfArchs[file.Machine]
		}
		if info, err := buildinfo.Read(bytes.NewReader(data)); err == nil {
			found.upstream[entry.Name()] = strings.HasPrefix(info.Path, upstreamModule)
		}
	}
	return found, nil
}

// fit returns an error if a machine cannot run one of the plugins.
func (p *plugins) fit(machine, arch string) error {
	for name, of := range p.arch {
		if of != "" && of != arch {
			return fmt.Errorf("plugin %s is built for %s, and %s is %s; name a directory of its own with --bin-dir",
				name, of, machine, arch)
		}
	}
	return nil
}

// needed returns the programs that a cluster needs: those that its configuration names, and all that are not
// upstream's, since only they know which of each other they call.
func (p *plugins) needed(req cluster.Request) []string {
	// Scenarios attach pods of a routed network with these two.
	names := append([]string{"ptp", "host-local"}, req.Conflist.Types()...)
	for _, plugin := range slices.Concat(req.Chain.AfterMain, req.Chain.Append) {
		name, _ := plugin["type"].(string)
		ipam, _ := plugin["ipam"].(map[string]any)
		delegate, _ := ipam["type"].(string)
		names = append(names, name, delegate)
	}
	for name := range p.files {
		if !p.upstream[name] {
			names = append(names, name)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return p.files[name].Sum == "" })
	slices.Sort(names)
	return slices.Compact(names)
}

func sumOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// sums returns the sums of all files.
func (p *plugins) sums() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, file := range p.files {
			if !yield(file.Sum) {
				return
			}
		}
	}
}
