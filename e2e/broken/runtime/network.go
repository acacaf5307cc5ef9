package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/version"
)

// network is a network configuration as the runtime uses it.
type network struct {
	name, version           string
	disableCheck, disableGC bool
	plugins                 []map[string]any
}

// has reports whether the network's version is at least another one.
func (n *network) has(since string) bool {
	is, err := version.GreaterThanOrEqualTo(n.version, since)
	return err == nil && is
}

// decode reads JSON and keeps numbers as they are, unless that is the fault.
func decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if !fault("floats") {
		decoder.UseNumber()
	}
	return decoder.Decode(into)
}

// load reads the network of a name from a directory of conflists.
func load(dir, name string) (*network, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.conflist"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var list map[string]any
		if err := decode(text, &list); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		listed, _ := list["name"].(string)
		// The files of other tests are in the directory, too.
		if listed == name || fault("first-file") && strings.HasPrefix(listed, name) {
			return read(dir, name, list)
		}
	}
	return nil, fmt.Errorf("no network %q in %s", name, dir)
}

func read(dir, name string, list map[string]any) (*network, error) {
	if !regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`).MatchString(name) && !fault("any-name") {
		return nil, fmt.Errorf("network name %q is not allowed", name)
	}
	n := &network{name: name, version: highest(list)}
	n.disableCheck, _ = list["disableCheck"].(bool)
	n.disableGC, _ = list["disableGC"].(bool)
	only, _ := list["loadOnlyInlinedPlugins"].(bool)
	inlined, there := list["plugins"].([]any)
	if only && !there && !fault("inlined-without-plugins") {
		return nil, errors.New("loadOnlyInlinedPlugins without plugins")
	}
	var folder []any
	if !only || fault("folder-always") {
		folder = inFolder(filepath.Join(dir, name))
	}
	if fault("every-folder") {
		folder = inFolder(filepath.Join(dir, "*"))
	}
	all := append(slices.Clone(inlined), folder...)
	if fault("folder-first") {
		all = append(folder, inlined...)
	}
	for i, value := range all {
		plugin, _ := value.(map[string]any)
		kind, _ := plugin["type"].(string)
		switch {
		case kind == "" && fault("skips-invalid"), i == 1 && fault("skips-one"):
		case kind == "":
			return nil, fmt.Errorf("plugin %d has no type", i)
		default:
			n.plugins = append(n.plugins, plugin)
		}
	}
	if n.plugins == nil && !fault("inlined-without-plugins") {
		return nil, errors.New("no plugins")
	}
	return n, nil
}

// inFolder returns the plugin objects of the files in a folder.
func inFolder(pattern string) []any {
	files, _ := filepath.Glob(filepath.Join(pattern, "*.conf"))
	var all []any
	for _, file := range files {
		var plugin map[string]any
		if text, err := os.ReadFile(file); err == nil && decode(text, &plugin) == nil {
			all = append(all, plugin)
		}
	}
	return all
}

// highest returns the highest version that the list has and this program knows.
func highest(list map[string]any) string {
	best, _ := list["cniVersion"].(string)
	if fault("first-version") {
		return best
	}
	versions, _ := list["cniVersions"].([]any)
	if len(versions) > 0 && fault("last-version") {
		text, _ := versions[len(versions)-2].(string)
		return text
	}
	for _, v := range versions {
		text, _ := v.(string)
		greater, err := version.GreaterThan(text, best)
		tooNew, err2 := version.GreaterThan(text, version.Current())
		if err == nil && err2 == nil && greater && !tooNew {
			best = text
		}
	}
	return best
}

// derive returns the configuration of a call. a is nil for a verb of the whole network.
func (n *network) derive(verb string, plugin map[string]any, a *attachment, previous any) map[string]any {
	config := maps.Clone(plugin)
	if fault("drops-nulls") {
		maps.DeleteFunc(config, func(_ string, value any) bool { return value == nil })
	}
	if fault("drops-unknown") {
		delete(config, "isGateway")
	}
	if fault("all-objects") {
		for _, other := range n.plugins {
			for key, value := range other {
				if _, there := config[key]; !there {
					config[key] = value
				}
			}
		}
	}
	if config["name"] == nil || !fault("own-name") {
		config["name"] = n.name
	}
	if config["cniVersion"] = n.version; verb == "STATUS" && fault("status-without-version") {
		delete(config, "cniVersion")
	}
	if previous != nil {
		config["prevResult"] = previous
	}
	if verb == "GC" {
		n.deriveGC(config)
	}
	if a != nil {
		deriveCapabilities(config, a)
	}
	return config
}

func (n *network) deriveGC(config map[string]any) {
	const key = "cni.dev/valid-attachments"
	type entry struct {
		ContainerID string `json:"containerID"`
		IfName      string `json:"ifname"`
	}
	list := []entry{}
	for _, a := range n.attachments() {
		list = append(list, entry{a.ContainerID, a.IfName})
	}
	switch {
	case fault("gc-without-list"):
		return
	case fault("gc-empty-list"):
		list = []entry{}
	case fault("gc-long-list"):
		list = append(list, entry{"gone", "eth0"})
	}
	config[key] = list
}

func deriveCapabilities(config map[string]any, a *attachment) {
	declared, _ := config["capabilities"].(map[string]any)
	if !fault("keeps-capabilities") {
		delete(config, "capabilities")
	}
	given := map[string]any{}
	for key, value := range a.Capabilities {
		if declared[key] == true && !fault("no-capabilities") || fault("all-capabilities") ||
			declared[key] == false && fault("false-capabilities") {
			given[key] = value
		}
	}
	if len(given) > 0 {
		config["runtimeConfig"] = given
	}
}
