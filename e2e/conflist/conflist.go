package conflist

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/containernetworking/cni/pkg/version"
)

// File is a CNI network configuration list as its user wrote it.
type File struct {
	// Path is the name that problems are reported under: the path for Load, the name for Parse.
	Path string
	// Network is the `name` of the list.
	Network string
	// CNIVersion is the version that a runtime picks from `cniVersion` and `cniVersions`: the highest that it knows
	// (SPEC.md, section 1).
	CNIVersion string
	// CNIVersions is `cniVersions` as written, empty without.
	CNIVersions []string
	// DisableCheck and DisableGC say that a runtime must not call CHECK, GC (SPEC.md, section 1).
	DisableCheck, DisableGC bool
	// Plugins is the chain, never empty.
	Plugins []Plugin
	// Source is the text as read, with its placeholders.
	Source []byte
	// Warnings are problems that a runtime lives with, each with its place.
	Warnings []string

	document *document
}

// Plugin is one object of the chain.
type Plugin struct {
	// Type is the name of the plugin's binary.
	Type string
	// IPAM is the type of the plugin that it asks for addresses, empty without.
	IPAM string
	// Config is the whole object; numbers are json.Number, unknown keys are kept.
	Config map[string]any
}

// Load reads a configuration list (.conflist), or a single plugin's configuration (.conf, .json), which it wraps into
// a list as libcni does.
func Load(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err // an *fs.PathError: names the path and what was tried
	}
	return Parse(path, data)
}

// Parse reads data as Load does. Its error joins every problem of the file, one a line, each as
// `name:line: what is wrong; how to mend it`; JSON syntax errors carry the column too. Placeholders have sample values,
// which a column behind one counts.
func Parse(name string, data []byte) (*File, error) {
	text, err := substitute(name, data, sampleNode())
	if err != nil {
		return nil, err
	}
	f, err := parseText(name, text)
	if err != nil {
		return nil, err
	}
	f.Source = slices.Clone(data)
	return f, nil
}

// Capabilities lists the runtime capabilities that any plugin of the chain declares (portMappings, bandwidth, ips,
// mac, …), sorted.
func (f *File) Capabilities() []string {
	set := map[string]bool{}
	for _, plugin := range f.Plugins {
		capabilities, _ := plugin.Config["capabilities"].(map[string]any)
		for name, on := range capabilities {
			if on == true {
				set[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Types lists the plugin types of the chain and of their IPAM, in the order in which a runtime meets them, each once.
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

// parseText reads a text that has no placeholders.
func parseText(name string, text []byte) (*File, error) {
	d, err := parseDocument(name, text)
	if err != nil {
		return nil, err
	}
	f := &File{Path: name, document: d}
	d.wrapSinglePlugin()
	f.check()
	if err := d.err(); err != nil {
		return nil, err
	}
	f.Warnings = d.warnings
	return f, nil
}

// wrapSinglePlugin makes a list of one out of a plugin's own configuration, with the keys that libcni's
// ConfListFromConf gives it.
func (d *document) wrapSinglePlugin() {
	root := d.root
	if root.fields == nil || root.fields["plugins"] != nil || root.fields["type"] == nil {
		return
	}
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

// effectiveVersion is the choice of SPEC.md, section 1: the highest of both keys that this suite knows.
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
