package conflist

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"
)

// File is a CNI network configuration list as its user wrote it.
type File struct {
	// Path is the name used in messages: the path for Load, the name for Parse.
	Path string
	// Network is the `name` of the list.
	Network string
	// CNIVersion is the version that a runtime picks from `cniVersion` and `cniVersions`: the highest that it knows
	// (SPEC.md, section 1).
	CNIVersion string
	// CNIVersions is `cniVersions` as written; empty if the file has none.
	CNIVersions []string
	// DisableCheck and DisableGC say that a runtime must not call CHECK or GC (SPEC.md, section 1).
	DisableCheck, DisableGC bool
	// Plugins is the chain, never empty.
	Plugins []Plugin
	// Definition is the NetworkAttachmentDefinition from which the network was read, "name" or "namespace/name"; empty
	// for a CNI configuration file.
	Definition string
	// Interfaces are the names of the interfaces that pods of the same file use for the network, by the annotation of
	// Multus; empty if they name none.
	Interfaces []string
	// Source is the text of the configuration as read, with its placeholders.
	Source []byte
	// Warnings are problems that a runtime tolerates, each with its place.
	Warnings []string

	origin
}

// origin is the text from which a network was read.
type origin struct {
	document *document
	// written is the configuration with its placeholders.
	written passage
	// defaultName is the network's name if the configuration has none.
	defaultName string
	// at is the version of the runtime that calls the plugins; empty for one that knows all versions.
	at string
}

// Plugin is one object of the chain.
type Plugin struct {
	// Type is the name of the plugin's binary.
	Type string
	// IPAM is the type of the plugin that it delegates to for addresses; empty if there is none.
	IPAM string
	// Config is the whole object; numbers are json.Number, unknown keys are kept.
	Config map[string]any
}

// Load reads a file that contains one network; see LoadAll.
func Load(path string) (*File, error) { return LoadNetwork(path, "") }

// LoadNetwork reads one network of a file. The name is that of its configuration or of its NetworkAttachmentDefinition;
// an empty name stands for the only one.
func LoadNetwork(path, network string) (*File, error) {
	all, err := LoadAll(path)
	if err != nil {
		return nil, err
	}
	return choose(path, all, network)
}

// LoadAll reads every network of a file: a configuration list (.conflist), a single plugin's configuration (.conf,
// .json), which it wraps into a list as libcni does, or NetworkAttachmentDefinitions as kubectl reads and prints them
// (.yaml, .yml, .json). The configuration of a definition without spec.config is looked up beside the file and in
// /etc/cni/net.d. The error joins all problems of the file.
func LoadAll(path string) ([]*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err // an *fs.PathError, which names the path and the operation
	}
	return parseAll(path, data, []string{filepath.Dir(path), systemDir})
}

// Parse reads the only network of data as Load does, with no other file beside it. Its error joins all problems of the
// file, one per line, each as `name:line: what is wrong; how to mend it`; JSON syntax errors name the column too.
// Placeholders have sample values.
func Parse(name string, data []byte) (*File, error) {
	all, err := parseAll(name, data, nil)
	if err != nil {
		return nil, err
	}
	return choose(name, all, "")
}

func parseAll(name string, data []byte, dirs []string) ([]*File, error) {
	if !holdsDefinitions(name, data) {
		f, err := parsePassage(wholeFile(name, data), "")
		if err == nil && len(dirs) > 0 {
			f.warnFolder(dirs[0])
		}
		return []*File{f}, err
	}
	found, err := definitions(name, data)
	var all []*File
	errs := []error{err}
	for _, d := range found {
		f, err := d.network(name, data, dirs)
		all, errs = append(all, f), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// warnFolder warns about plugins in files of the folder beside a list that has the network's name: libcni 1.3 appends
// them to the chain (NetworkConfFromFile), and this suite runs the list's own.
func (f *File) warnFolder(dir string) {
	root := f.document.root
	if f.document.isRoot(root.fields["plugins"].items[0]) || f.document.flag(root, "loadOnlyInlinedPlugins") {
		return
	}
	files, err := libcni.ConfFiles(filepath.Join(dir, f.Network), []string{".conf"})
	if err == nil && len(files) > 0 {
		f.Warnings = append(f.Warnings, fmt.Sprintf("%s:%d: libcni from 1.3 on appends %s to the plugins, and only "+
			"those of the list are run here; write them into the list, with \"loadOnlyInlinedPlugins\": true", f.Path,
			f.document.line(root.offset), strings.Join(files, ", ")))
	}
}

// choose returns the network of a name, or the only one.
func choose(path string, all []*File, network string) (*File, error) {
	var names []string
	var found []*File
	for _, f := range all {
		names = append(names, cmp.Or(f.Definition, f.Network))
		_, short, _ := strings.Cut(f.Definition, "/")
		if network == "" || slices.Contains([]string{f.Network, f.Definition, short}, network) {
			found = append(found, f)
		}
	}
	list := strings.Join(names, ", ")
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("%s: no network %q; it holds %s", path, network, list)
	case len(found) > 1 && network == "":
		return nil, fmt.Errorf("%s: %d networks; choose one with --network: %s", path, len(found), list)
	case len(found) > 1:
		return nil, fmt.Errorf("%s: network %q occurs %d times; choose one of %s", path, network, len(found),
			list)
	}
	return found[0], nil
}

// Capabilities returns the runtime capabilities that plugins of the chain declare (portMappings, bandwidth, ips, mac,
// …), sorted.
func (f *File) Capabilities() []string {
	set := map[string]bool{}
	for _, plugin := range f.Plugins {
		for _, name := range plugin.Capabilities() {
			set[name] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Capabilities returns the capabilities that the plugin declares, sorted.
func (p *Plugin) Capabilities() []string { return declared(p.Config) }

func declared(config map[string]any) []string {
	capabilities, _ := config["capabilities"].(map[string]any)
	var names []string
	for name, on := range capabilities {
		if on == true {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Types returns the plugin types of the chain and of their IPAM, in the order in which a runtime calls them, each once.
func (f *File) Types() []string {
	var types []string
	for _, plugin := range f.Plugins {
		for _, name := range []string{plugin.Type, plugin.IPAM} {
			if name != "" && !slices.Contains(types, name) {
				types = append(types, name)
			}
		}
	}
	return types
}

// parsePassage reads a text with placeholders. name is the network's name if the text has none.
func parsePassage(p passage, name string) (*File, error) {
	f, err := parseText(p.substitute(sampleNode()), name)
	if err != nil {
		return nil, err
	}
	f.Source, f.written, f.defaultName = slices.Clone(p.text), p, name
	return f, nil
}

// on returns the file with the placeholders of one node.
func (f *File) on(node placeholders) (*File, error) {
	return parseText(f.written.substitute(node), f.defaultName)
}

// parseText reads a text without placeholders.
func parseText(p passage, name string) (*File, error) {
	d, err := parseDocument(p)
	if err != nil {
		return nil, err
	}
	f := &File{Path: p.file, origin: origin{document: d}}
	if root := d.root; name != "" && root.fields != nil && root.fields["name"] == nil {
		root.keys = append(root.keys, "name")
		root.fields["name"] = &value{offset: root.offset, scalar: name}
	}
	d.wrapSinglePlugin()
	f.check()
	if err := d.err(); err != nil {
		return nil, err
	}
	f.Warnings = d.sortedWarnings()
	return f, nil
}

// wrapSinglePlugin makes a list of a single plugin's configuration, with the keys that libcni's ConfListFromConf sets.
func (d *document) wrapSinglePlugin() {
	root := d.root
	if root.fields == nil || root.fields["plugins"] != nil {
		return
	}
	if !slices.ContainsFunc(root.keys, func(key string) bool { return strings.EqualFold(key, "type") }) {
		return
	}
	d.canonical(root, pluginKeys())
	list := &value{offset: root.offset, keys: []string{"plugins"}, fields: map[string]*value{
		"plugins": {offset: root.offset, items: []*value{root}},
	}}
	for _, key := range []string{"name", "cniVersion"} {
		if field := root.fields[key]; field != nil {
			list.keys = append(list.keys, key)
			list.fields[key] = field
		}
	}
	d.root = list
}

// effectiveVersion returns the version that SPEC.md, section 1, chooses: the highest one of both keys that this suite
// knows.
func effectiveVersion(single string, several []string) string {
	best := ""
	for _, candidate := range append([]string{single}, several...) {
		if !slices.Contains(version.All.SupportedVersions(), candidate) {
			continue
		}
		if newer, err := version.GreaterThan(candidate, best); best == "" || err == nil && newer {
			best = candidate
		}
	}
	return best
}

func marshal(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write conflist: %w", err)
	}
	return append(data, '\n'), nil
}
