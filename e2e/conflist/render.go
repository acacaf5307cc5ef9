package conflist

import (
	"fmt"
	"maps"
	"slices"

	"github.com/containernetworking/cni/libcni"
)

// render writes each node's conflist. It does not change keys that this package does not know.
func (p *planner) render() error {
	for i, d := range p.drafts {
		node := &p.plan.Nodes[i]
		values := placeholders{name: d.node.Name, index: i + 1, ip: node.Addresses[0].Addr()}
		conf, err := p.file.on(values)
		if err != nil {
			return fmt.Errorf("node/%s: %w", d.node.Name, err)
		}
		list := conf.document.root.object()
		plugins := list["plugins"].([]any)
		if p.changed(d) {
			p.rewrite(d, plugins[d.plugin].(map[string]any)["ipam"].(map[string]any))
		}
		if name := conf.chainUplink(); d.node.Uplink != "" {
			renameUplink(plugins, name, d.node.Uplink)
		}
		list["plugins"] = p.opts.Chain.extend(plugins)
		if p.file.at != "" {
			list["cniVersion"] = p.file.at
			delete(list, "cniVersions")
		}
		if node.Conflist, err = marshal(list); err != nil {
			return fmt.Errorf("node/%s: %w", d.node.Name, err)
		}
		if _, err := libcni.NetworkConfFromBytes(node.Conflist); err != nil {
			return fmt.Errorf("node/%s: %s: libcni: %w", d.node.Name, p.file.Path, err)
		}
	}
	return nil
}

// renameUplink replaces one name by another wherever plugins name their uplink. It does not change names of interfaces
// in pods.
func renameUplink(plugins []any, from, to string) {
	for _, plugin := range plugins {
		object, ok := plugin.(map[string]any)
		if !ok || object["linkInContainer"] == true {
			continue
		}
		for _, key := range append([]string{"bridge"}, uplinkKeys...) {
			switch value := object[key].(type) {
			case string:
				if value == from {
					object[key] = to
				}
			case []any:
				for i := range value {
					if value[i] == from {
						value[i] = to
					}
				}
			}
		}
	}
}

func (c Chain) extend(plugins []any) []any {
	added := func(objects []map[string]any) []any {
		list := make([]any, 0, len(objects))
		for _, object := range objects {
			list = append(list, object)
		}
		return list
	}
	return slices.Concat(plugins[:1], added(c.AfterMain), plugins[1:], added(c.Append))
}

// rewrite puts the node's share into its ipam object. A flat range stays flat unless it becomes several ranges.
func (p *planner) rewrite(d *draft, ipam map[string]any) {
	old, _ := ipam["ranges"].([]any)
	if d.ipam.flat {
		old = append([]any{[]any{flatRange(ipam)}}, old...)
	}
	var ranges []any
	for i, set := range d.share {
		var objects []any
		for j, part := range set {
			objects = append(objects, part.objects(d.ipam.sets[i][j], old[i].([]any)[j].(map[string]any))...)
		}
		ranges = append(ranges, objects)
	}
	if d.ipam.flat {
		for _, key := range flatKeys {
			delete(ipam, key)
		}
		if first := ranges[0].([]any); len(first) == 1 {
			maps.Copy(ipam, first[0].(map[string]any))
			ranges = ranges[1:]
		}
	}
	if len(ranges) > 0 {
		ipam["ranges"] = ranges
	}
}

var flatKeys = []string{"subnet", "rangeStart", "rangeEnd", "gateway"}

func flatRange(ipam map[string]any) map[string]any {
	object := map[string]any{}
	for _, key := range flatKeys {
		if field, ok := ipam[key]; ok {
			object[key] = field
		}
	}
	return object
}

// objects returns the part in host-local's form: the file's own object if nothing changed, otherwise an object for each
// contiguous range.
func (part part) objects(s span, old map[string]any) []any {
	if part.whole(s) {
		return []any{old}
	}
	var objects []any
	for _, r := range part.ips {
		object := maps.Clone(old)
		object["rangeStart"], object["rangeEnd"] = r.From().String(), r.To().String()
		if part.subnet != s.subnet {
			object["subnet"] = part.subnet.String()
			if s.subnet.Contains(s.gateway) {
				delete(object, "gateway") // host-local uses the first address of the new subnet
			}
		}
		objects = append(objects, object)
	}
	return objects
}
