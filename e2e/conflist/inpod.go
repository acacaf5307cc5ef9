package conflist

import (
	"fmt"
	"strings"
)

// InPod returns what a plugin of the chain expects to find in each pod before it is called, with its place in the file:
// links that other networks of the pod put there. It returns "" if there is nothing of the kind.
//
//   - macvlan, ipvlan and vlan with linkInContainer look for their master in the pod;
//   - tap looks for its bridge there;
//   - bond takes links that other attachments made (github.com/k8snetworkplumbingwg/bond-cni), on the node unless
//     linksInContainer says otherwise.
func (f *File) InPod() string {
	for i, plugin := range f.document.plugins() {
		names, at := linksInPod(f.Plugins[i].Type, plugin)
		if len(names) > 0 {
			return fmt.Sprintf("%s:%d: %s looks in the pod for %s, which another network must have put there", f.Path,
				f.document.line(at.offset), f.Plugins[i].Type, strings.Join(names, " and "))
		}
	}
	return ""
}

func linksInPod(typ string, plugin *value) (names []string, at *value) {
	switch {
	case typ == "tap":
		if bridge := plugin.fields["bridge"]; textOf(bridge) != "" {
			return []string{textOf(bridge)}, bridge
		}
	case typ == "bond":
		links := plugin.fields["links"]
		if links == nil {
			return nil, nil
		}
		for _, link := range links.items {
			if name := textOf(link.fields["name"]); name != "" {
				names = append(names, name)
			}
		}
		return names, links
	case plugin.isTrue("linkInContainer"):
		name := textOf(plugin.fields["master"])
		if name == "" {
			name = "its master"
		}
		return []string{name}, plugin.fields["linkInContainer"]
	}
	return nil, nil
}
