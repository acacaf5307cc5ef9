package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
)

// Node is the node that a conflist is rendered for.
type Node struct {
	Name, IP string
	Index    int
}

// Paths are the sources and the destinations of the files.
type Paths struct {
	// Plugins holds the binaries, Conflists the conflists before rendering.
	Plugins, Conflists string
	// BinDir and ConflistDir are directories of the node.
	BinDir, ConflistDir string
}

// index returns the third number of an IPv4 pod CIDR, or the last byte of the prefix of an IPv6 one. Either differs
// from node to node.
func index(cidr string) (int, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return 0, fmt.Errorf("pod CIDR: %w", err)
	}
	switch bytes := prefix.Addr().AsSlice(); {
	case prefix.Addr().Is4() && prefix.Bits() == 24:
		return int(bytes[2]), nil
	case prefix.Addr().Is6() && prefix.Bits() == 64:
		return int(bytes[7]), nil
	}
	return 0, fmt.Errorf("pod CIDR %s: want an IPv4 prefix of 24 bits or an IPv6 prefix of 64", cidr)
}

// render replaces the placeholders. It returns an error if the result is not a conflist.
func render(text []byte, node Node) ([]byte, error) {
	rendered := strings.NewReplacer(
		"${NODE_NAME}", node.Name, "${NODE_IP}", node.IP, "${NODE_INDEX}", strconv.Itoa(node.Index),
	).Replace(string(text))
	var list struct {
		Name    string            `json:"name"`
		Plugins []json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal([]byte(rendered), &list); err != nil {
		return nil, err
	}
	if list.Name == "" || len(list.Plugins) == 0 {
		return nil, errors.New("want a name and plugins")
	}
	return []byte(rendered), nil
}

// The records are files beside the binaries that list the files which the installer wrote. Files that the node had
// before, above all the loopback plugin of its runtime, are left alone: without them no pod could end.
const (
	pluginsRecord   = ".cnitest-plugins"
	conflistsRecord = ".cnitest-conflists"
)

// record reads a set of names.
func (p Paths) record(file string) (map[string]bool, error) {
	text, err := os.ReadFile(filepath.Join(p.BinDir, file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	own := map[string]bool{}
	for _, name := range strings.Fields(string(text)) {
		own[name] = true
	}
	return own, nil
}

func (p Paths) writeRecord(file string, own map[string]bool) error {
	text := strings.Join(slices.Sorted(maps.Keys(own)), "\n") + "\n"
	return renameio.WriteFile(filepath.Join(p.BinDir, file), []byte(text), 0o644)
}

// installPlugins copies the plugins that the node lacks or that an earlier call installed.
func (p Paths) installPlugins(plugins []string) error {
	own, err := p.record(pluginsRecord)
	if err != nil {
		return err
	}
	for _, name := range plugins {
		if _, err := os.Stat(filepath.Join(p.BinDir, name)); err == nil && !own[name] {
			fmt.Fprintf(os.Stderr, "installer: %s: the node has its own, which stays\n", name)
			continue
		}
		own[name] = true
		// Recorded first: a file that is copied but not recorded would never be removed.
		if err := p.writeRecord(pluginsRecord, own); err != nil {
			return err
		}
		if err := copyFile(filepath.Join(p.Plugins, name), filepath.Join(p.BinDir, name)); err != nil {
			return err
		}
	}
	return nil
}

// installConflists writes the conflists, and then removes those that an earlier call wrote and this one did not: a
// runtime uses the first by name. There is always at least one, since a node without any is not ready.
func (p Paths) installConflists(conflists map[string][]byte) error {
	own, err := p.record(conflistsRecord)
	if err != nil {
		return err
	}
	for name := range conflists {
		own[name] = true
	}
	if err := p.writeRecord(conflistsRecord, own); err != nil {
		return err
	}
	for name, text := range conflists {
		if err := renameio.WriteFile(filepath.Join(p.ConflistDir, name), text, 0o644); err != nil {
			return err
		}
	}
	for name := range own {
		if _, wanted := conflists[name]; wanted {
			continue
		}
		if err := remove(filepath.Join(p.ConflistDir, name)); err != nil {
			return err
		}
		delete(own, name)
	}
	return p.writeRecord(conflistsRecord, own)
}

// Install copies the binaries, then writes the conflists, and then removes conflists of an earlier call that are no
// longer wanted. Each file is complete when it appears, and replaces one that may be running at that moment. It may be
// called again.
func (p Paths) Install(node Node) error {
	conflists := map[string][]byte{}
	files, err := names(p.Conflists)
	if err != nil {
		return err
	}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(p.Conflists, name))
		if err != nil {
			return err
		}
		if conflists[name], err = render(text, node); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	plugins, err := names(p.Plugins)
	if err != nil {
		return err
	}
	for _, dir := range []string{p.BinDir, p.ConflistDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := p.installPlugins(plugins); err != nil {
		return err
	}
	return p.installConflists(conflists)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := renameio.NewPendingFile(to, renameio.WithPermissions(0o755))
	if err != nil {
		return err
	}
	defer func() { _ = out.Cleanup() }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}

// Uninstall removes the installer's conflists and then its binaries: without a conflist no runtime asks for a plugin
// that is gone.
func (p Paths) Uninstall() error {
	for _, own := range []struct{ record, dir string }{{conflistsRecord, p.ConflistDir}, {pluginsRecord, p.BinDir}} {
		names, err := p.record(own.record)
		if err != nil {
			return err
		}
		for name := range names {
			if err := remove(filepath.Join(own.dir, name)); err != nil {
				return err
			}
		}
		if err := remove(filepath.Join(p.BinDir, own.record)); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a file that may already be gone.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
