package conflist

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// defaultUplink is the lab's name for the interface of the default route, which macvlan and ipvlan use by default.
const defaultUplink = "eth0"

// uplinkKeys name a node's interface: `master` in macvlan, ipvlan, vlan and most plugins that follow them in chains;
// `hostInterface` in veth-to-host; `device` in host-device.
var uplinkKeys = []string{"master", "hostInterface", "device", "parent", "uplink"}

// attachedTypes put a pod onto the uplink's own LAN even if no key names the uplink.
var attachedTypes = []string{"macvlan", "ipvlan", "vlan", "host-device", "sriov", "macvtap", "ipvtap"}

// uplinkOf returns the interface that a plugin names; empty if there is none. Of a list (several masters) it returns
// the first.
func uplinkOf(plugin *value) (name string, at *value) {
	if plugin.isTrue("linkInContainer") {
		return "", nil
	}
	for _, key := range uplinkKeys {
		field := plugin.fields[key]
		if field != nil && len(field.items) > 0 {
			field = field.items[0]
		}
		if field == nil {
			continue
		}
		if name, ok := field.scalar.(string); ok && name != "" {
			return name, field
		}
	}
	return lanBridge(plugin)
}

// lanBridge returns the bridge of upstream's plugin of that name if it connects pods with the LAN: it has no address
// that could be their router, so that they get theirs from the LAN's DHCP server, or none.
func lanBridge(plugin *value) (name string, at *value) {
	ipam := plugin.fields["ipam"]
	leased := ipam == nil || textOf(ipam.fields["type"]) == "" || textOf(ipam.fields["type"]) == DHCPPlugin
	if textOf(plugin.fields["type"]) != "bridge" || !leased || plugin.isTrue("isGateway") ||
		plugin.isTrue("isDefaultGateway") {
		return "", nil
	}
	if field := plugin.fields["bridge"]; textOf(field) != "" {
		return textOf(field), field
	}
	return "cni0", plugin.fields["type"] // the plugin's default
}

// LANBridge reports whether the main plugin connects pods with the LAN by a bridge that exists on nodes, with their
// interface on the LAN as a port.
func (f *File) LANBridge() bool {
	name, _ := lanBridge(f.document.plugins()[0])
	return name != ""
}

// plainMTU and mostMTU are the MTU of Ethernet and the largest one of a veth.
const plainMTU, mostMTU = 1500, 65535

// lanMTU returns the MTU that the LAN needs for what the chain's plugins ask for: that of a device on the uplink is at
// most the uplink's.
func (f *File) lanMTU() int {
	if f.mainUpstream() && f.routed() {
		return plainMTU // pods are behind their node
	}
	largest := plainMTU
	for _, plugin := range f.document.plugins() {
		field := plugin.fields["mtu"]
		if field == nil {
			continue
		}
		if mtu, err := strconv.Atoi(field.written()); err == nil && mtu <= mostMTU {
			largest = max(largest, mtu)
		}
	}
	return largest
}

func (d *document) checkUplink(plugin *value) {
	name, at := uplinkOf(plugin)
	if at == nil {
		return
	}
	if err := validLinkName(name); err != nil {
		d.reject(at, "%v", err)
	}
}

// validLinkName checks a name as the kernel's dev_valid_name does (net/core/dev.c): IFNAMSIZ is 16 with the NUL.
func validLinkName(name string) error {
	switch {
	case len(name) > 15:
		return fmt.Errorf("interface name %q has %d bytes; Linux takes at most 15", name, len(name))
	case strings.Contains(name, ":") && !strings.HasPrefix(name, ":") && !strings.ContainsAny(name, "/ "):
		device, _, _ := strings.Cut(name, ":")
		return fmt.Errorf("interface name %q has a colon, which no interface's name has: it is the label of an "+
			"address of %s; write %q", name, device, device)
	case name == "." || name == ".." || strings.ContainsAny(name, "/:") || strings.ContainsFunc(name, unicode.IsSpace):
		return fmt.Errorf("interface name %q has a character that Linux forbids; leave out slash, colon and white "+
			"space", name)
	}
	return nil
}

// chainUplink returns the first interface that the chain names; empty if there is none.
func (f *File) chainUplink() string {
	for _, plugin := range f.document.plugins() {
		if name, _ := uplinkOf(plugin); name != "" {
			return name
		}
	}
	return ""
}

// routed reports whether pods are not on the uplink's LAN: the main plugin makes an interface of its own (bridge, ptp),
// so that other nodes need a route to its pods.
func (f *File) routed() bool {
	main := f.document.plugins()[0]
	name, _ := uplinkOf(main)
	return name == "" && !slices.Contains(attachedTypes, f.Plugins[0].Type)
}

func (d *document) plugins() []*value { return d.root.fields["plugins"].items }
