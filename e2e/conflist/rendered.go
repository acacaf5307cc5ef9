package conflist

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Rendered is a configuration list as a runtime reads it on one node: a list of plugins, without placeholders. Unlike a
// File it may contain deliberate mistakes.
type Rendered struct {
	CNIVersion string
	Name       string
	// Plugins are the configurations of the plugins as they are in the list.
	Plugins []map[string]any

	list map[string]any // all keys
}

// ParseRendered reads a list that Plan rendered for a node. It checks only the types of the fields of Rendered. The
// error says which one is wrong; the parts read until then are returned with it.
func ParseRendered(data []byte) (*Rendered, error) {
	r := &Rendered{}
	if err := json.Unmarshal(data, &r.list); err != nil {
		return r, fmt.Errorf("conflist: %w", err)
	}
	r.CNIVersion, _ = r.list["cniVersion"].(string)
	r.Name, _ = r.list["name"].(string)
	plugins, ok := r.list["plugins"].([]any)
	if !ok {
		return r, fmt.Errorf("conflist %q: want an array plugins, got %T", r.Name, r.list["plugins"])
	}
	for i, p := range plugins {
		plugin, ok := p.(map[string]any)
		if !ok {
			return r, fmt.Errorf("conflist %q: want an object plugins[%d], got %T", r.Name, i, p)
		}
		r.Plugins = append(r.Plugins, plugin)
	}
	return r, nil
}

// Prefix returns the list with only the first plugins.
func (r *Rendered) Prefix(plugins int) ([]byte, error) {
	list := maps.Clone(r.list)
	list["plugins"] = r.Plugins[:plugins]
	return json.Marshal(list)
}

// Capabilities returns the runtime capabilities that plugins of the list declare, sorted.
func (r *Rendered) Capabilities() []string {
	var all []string
	for _, config := range r.Plugins {
		all = append(all, declared(config)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Input returns the configuration of a plugin as a runtime passes it: with the version and the name of the list
// (SPEC.md, section 3, "Deriving request configuration"). It does not contain what a runtime adds for a single call.
func (r *Rendered) Input(plugin int) ([]byte, error) {
	config := maps.Clone(r.Plugins[plugin])
	config["cniVersion"], config["name"] = r.CNIVersion, r.Name
	return json.Marshal(config)
}

// IPAM returns the type of the first IPAM plugin, and the index of the plugin that delegates to it. The type is empty
// if there is none.
func (r *Rendered) IPAM() (name string, plugin int) {
	for i, p := range r.Plugins {
		ipam, _ := p["ipam"].(map[string]any)
		if name, _ := ipam["type"].(string); name != "" {
			return name, i
		}
	}
	return "", 0
}

// Earlier returns the list of an earlier version of the plugins for the node of r: with its own keys, and with the
// ipam object and the uplink of r.
func (r *Rendered) Earlier(f *File) ([]byte, error) {
	if f.Network != r.Name {
		return nil, fmt.Errorf("%s: its network is %q, want %q as in the conflist under test", f.Path, f.Network,
			r.Name)
	}
	list := f.document.root.object()
	plugins, _ := list["plugins"].([]any)
	if len(plugins) == 0 {
		return nil, fmt.Errorf("%s: want an array plugins", f.Path)
	}
	main, _ := plugins[0].(map[string]any)
	if main["type"] != r.Plugins[0]["type"] {
		return nil, fmt.Errorf("%s: its first plugin is %v, want %v as in the conflist under test", f.Path,
			main["type"], r.Plugins[0]["type"])
	}
	if ipam, ok := r.Plugins[0]["ipam"]; ok {
		main["ipam"] = ipam
	}
	for _, key := range uplinkKeys {
		if to, ok := r.Plugins[0][key].(string); ok {
			renameUplink(plugins, f.chainUplink(), to)
			break
		}
	}
	return marshal(list)
}
