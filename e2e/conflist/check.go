package conflist

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// check fills in the file from its document and records each problem.
func (f *File) check() {
	d := f.document
	root := d.root
	if root.fields == nil {
		d.reject(root, "the file holds %s; want an object with cniVersion, name and plugins", root.kind())
		return
	}
	d.checkListKeys()
	d.checkAllKeys()
	d.checkTemplates()
	f.Network = f.checkName(root)
	f.checkVersions(root)
	f.DisableCheck = d.flag(root, "disableCheck")
	f.DisableGC = d.flag(root, "disableGC")
	d.checkReserved(root, "the list")

	list := root.fields["plugins"]
	switch {
	case list == nil:
		d.reject(root, `no plugins; add "plugins": [{"type": …}]`)
		return
	case list.items == nil:
		d.reject(list, "plugins is %s; want a list of objects", list.kind())
		return
	case len(list.items) == 0:
		d.reject(list, `plugins is empty; add one object with a "type"`)
		return
	}
	for _, item := range list.items {
		f.Plugins = append(f.Plugins, d.checkPlugin(item))
	}
	d.checkOrder(list.items[0])
	for _, item := range list.items {
		d.ipam(item)
	}
	f.checkExtension(root)
	if len(d.problems) > 0 {
		return
	}
	d.checkRangeSetsPerFamily(f.CNIVersion)
	// The library that runtimes use decides in the end.
	data, err := marshal(root.plain())
	if err == nil {
		_, err = libcni.NetworkConfFromBytes(data)
	}
	if err != nil {
		d.reject(root, "libcni: %v; compare with SPEC.md, section 1", err)
	}
}

// listKeys are the keys of a list. libcni only accepts their exact names.
var listKeys = []string{
	"cniVersion", "cniVersions", "name", "disableCheck", "disableGC", "loadOnlyInlinedPlugins", "plugins",
}

// checkListKeys finds keys of the list in other cases, which libcni ignores.
func (d *document) checkListKeys() {
	root := d.root
	for i, key := range root.keys {
		for _, name := range listKeys {
			if key == name || !strings.EqualFold(key, name) || root.fields[name] != nil {
				continue
			}
			field := root.fields[key]
			if !slices.Contains([]string{"cniVersion", "name", "plugins"}, name) {
				d.warn(field, "libcni accepts the list's key %q only in this spelling, and ignores %q; write it so",
					name, key)
				continue
			}
			d.reject(field, "libcni accepts the list's key %q only in this spelling; write it instead of %q", name, key)
			root.keys[i] = name
			delete(root.fields, key)
			root.fields[name] = field
		}
	}
}

// checkExtension reports a single plugin in a .conflist, and warns about a list in a .conf, which runtimes do not read
// as one.
func (f *File) checkExtension(root *value) {
	extension := filepath.Ext(f.Path)
	wrapped := f.document.isRoot(root.fields["plugins"].items[0])
	switch {
	case wrapped && extension == ".conflist":
		f.document.reject(root, `no plugins; add "plugins": [{"type": …}], or name the file .conf`)
	case !wrapped && extension == ".conf":
		f.document.warn(root, "runtimes read a list of plugins only from a .conflist; rename the file")
	}
}

// checkName checks the network's name against SPEC.md, section 1.
func (f *File) checkName(root *value) string {
	const rule = `letters, digits, "_", "." and "-", the first a letter or a digit`
	name, ok := f.document.str(root, "name")
	switch {
	case ok && name == "", root.fields["name"] == nil:
		f.document.reject(root, `no network name; add "name" with %s`, rule)
	case ok && utils.ValidateNetworkName(name) != nil:
		f.document.reject(root.fields["name"], "network name %q has a character that the spec forbids; use %s", name,
			rule)
	}
	return name
}

func (f *File) checkVersions(root *value) {
	d := f.document
	known := version.All.SupportedVersions()
	var single string
	field := root.fields["cniVersion"]
	isText := false
	if field != nil {
		if single, isText = field.scalar.(string); !isText {
			d.reject(field, "cniVersion is %s; want a string, one of %s", field.kind(), strings.Join(known, ", "))
		}
	}
	if list := root.fields["cniVersions"]; list != nil {
		f.CNIVersions = d.versionList(list)
	}
	f.CNIVersion = effectiveVersion(single, f.CNIVersions)
	switch {
	case f.CNIVersion != "" || field != nil && !isText:
	case field == nil && len(f.CNIVersions) == 0:
		d.reject(root, `no cniVersion; add "cniVersion": "1.0.0" or another of %s: without it containerd cannot `+
			`delete pods`, strings.Join(known, ", "))
	case single != "":
		d.reject(root.fields["cniVersion"], "cniVersion %q is unknown; want one of %s", single,
			strings.Join(known, ", "))
	default:
		d.reject(root, "no cniVersion that is known; want one of %s", strings.Join(known, ", "))
	}
}

func (d *document) versionList(list *value) []string {
	var versions []string
	if list.items == nil {
		d.reject(list, "cniVersions is %s; want a list of strings", list.kind())
	}
	for _, item := range list.items {
		text, ok := item.scalar.(string)
		if !ok {
			d.reject(item, "cniVersions holds %s; want strings", item.kind())
			continue
		}
		if _, _, _, err := version.ParseVersion(text); err != nil {
			d.reject(item, "cniVersions holds %q; want a version such as 1.0.0", text)
			continue
		}
		versions = append(versions, text)
	}
	return versions
}

func (d *document) checkPlugin(item *value) Plugin {
	if item.fields == nil {
		d.reject(item, "plugins holds %s; want objects", item.kind())
		return Plugin{}
	}
	plugin := Plugin{Config: item.object()}
	var ok bool
	plugin.Type, ok = d.str(item, "type")
	switch {
	case ok && plugin.Type == "", item.fields["type"] == nil:
		other := ""
		if name := textOf(item.fields["name"]); name != "" {
			other = fmt.Sprintf(`; "name": %q does not say it`, name)
		}
		d.reject(item, `plugin has no type; add "type" with the name of its binary%s`, other)
	case ok && (strings.ContainsAny(plugin.Type, `/\`) || plugin.Type == "." || plugin.Type == ".."):
		d.reject(item.fields["type"], "plugin type %q is a path; write the binary's name alone", plugin.Type)
	}
	if ipam := item.fields["ipam"]; ipam != nil && ipam.fields == nil {
		d.reject(ipam, "ipam is %s; want an object", ipam.kind())
	} else if ipam != nil {
		plugin.IPAM, _ = d.str(ipam, "type")
	}
	if capabilities := item.fields["capabilities"]; capabilities != nil {
		d.checkCapabilities(capabilities)
	}
	d.checkUplink(item)
	d.checkBrought(item)
	d.checkReserved(item, plugin.Type)
	return plugin
}

func (d *document) checkCapabilities(capabilities *value) {
	if capabilities.fields == nil {
		d.reject(capabilities, `capabilities is %s; want an object such as {"portMappings": true}`, capabilities.kind())
	}
	for _, name := range capabilities.keys {
		field := capabilities.fields[name]
		if _, ok := field.scalar.(bool); !ok {
			d.reject(field, "capability %s is %s; want true or false", name, field.kind())
		}
	}
}

// checkReserved warns about keys that SPEC.md, section 1, reserves for the runtime.
func (d *document) checkReserved(object *value, owner string) {
	for _, key := range object.keys {
		if slices.Contains([]string{"runtimeConfig", "args", "prevResult"}, key) || strings.HasPrefix(key, "cni.dev/") {
			d.warn(object.fields[key], "%s has the key %q, which is the runtime's to fill in; remove it", owner, key)
		}
	}
}

// str returns a string field. ok is false if it is missing or has another type; the latter is recorded as a problem.
func (d *document) str(object *value, key string) (text string, ok bool) {
	field := object.fields[key]
	if field == nil {
		return "", false
	}
	if text, ok = field.scalar.(string); !ok || field.fields != nil || field.items != nil {
		d.reject(field, "%s is %s; want a string", key, field.kind())
		return "", false
	}
	return text, true
}

// flag reads true, false and, like libcni, the strings "true" and "false".
func (d *document) flag(object *value, key string) bool {
	field := object.fields[key]
	if field == nil {
		return false
	}
	switch on := field.scalar.(type) {
	case bool:
		return on
	case string:
		if strings.EqualFold(on, "true") || strings.EqualFold(on, "false") {
			return strings.EqualFold(on, "true")
		}
	}
	d.reject(field, "%s is %s; want true or false", key, field.kind())
	return false
}
