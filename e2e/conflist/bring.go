package conflist

import (
	"net/netip"
	"slices"
	"strings"
)

const (
	// mostBrought limits the number of pods for which a node has addresses, and mostLeased the addresses of a DHCP
	// server.
	mostBrought = 128
	mostLeased  = 250
)

// bringsLAN reports whether pods get their addresses on the LAN from outside of the file: from the runtime, or by DHCP.
func (a ipam) bringsLAN() bool { return a.brought && len(a.fixed) == 0 || a.typ == "dhcp" }

// broughtLAN returns the LAN of such pods: the caller's, the networks around the routers that the file names, or one
// that the lab chooses.
func (p *planner) broughtLAN() ([]netip.Prefix, error) {
	lan := slices.Clone(p.opts.Subnets)
	if len(lan) == 0 {
		for _, d := range p.drafts {
			for _, router := range slices.Concat(p.opts.Gateways, d.ipam.routers) {
				bits := 24
				if router.Is6() {
					bits = 64
				}
				around := netip.PrefixFrom(router, bits).Masked()
				if !router.IsLinkLocalUnicast() && !slices.Contains(lan, around) {
					lan = append(lan, around)
				}
			}
		}
	}
	if len(lan) == 0 {
		own, err := p.fresh(4, len(p.drafts))
		if err != nil {
			return nil, err
		}
		if own.Bits() > 24 { // nodes alone need few addresses, pods more
			own = netip.PrefixFrom(own.Addr(), 24).Masked()
		}
		lan = []netip.Prefix{own}
	}
	said := "name another network with --subnet"
	if len(p.opts.Subnets) > 0 {
		said = "as the caller says"
	}
	who := "the runtime brings each pod an address"
	if p.drafts[0].ipam.typ == "dhcp" {
		who = "the lab's DHCP server gives pods addresses"
	}
	if p.file.LayerTwo() {
		who = "after ADD the suite gives each pod an address"
	}
	p.note("the file has no addresses: %s of %s; %s", who, join(lan), said)
	return lan, nil
}

// bring gives each node addresses for its pods, or the DHCP server its range.
func (p *planner) bring() error {
	first := p.drafts[0].ipam
	if !first.bringsLAN() && !p.file.LayerTwo() {
		return nil
	}
	for _, lan := range p.plan.LAN {
		free := p.free(lan, max(mostLeased, mostBrought*len(p.drafts)))
		if len(free) < len(p.drafts) {
			return p.errorf(p.drafts[0].line, "subnet %s has too few free addresses for pods on %d nodes; take a "+
				"larger subnet or fewer nodes", lan, len(p.drafts))
		}
		if first.typ == "dhcp" {
			if lan.Addr().Is4() {
				p.plan.Leases = free[:min(len(free), p.leased())]
			}
			continue
		}
		p.share(lan, free)
	}
	if first.written {
		p.note("args.cni.ips of the file is of one pod: the runtime passes each pod an address of its own there")
	}
	for i, d := range p.drafts {
		node := &p.plan.Nodes[i]
		node.PoolSize = len(node.PodAddresses)
		if want := d.node.Addresses; want > 0 && first.typ != "dhcp" {
			node.PodAddresses = node.PodAddresses[:min(want, len(node.PodAddresses))]
			node.PoolSize = len(node.PodAddresses)
		}
	}
	return nil
}

// leased returns the number of addresses of the DHCP server: the sum of the nodes' wishes, or all if a node has none.
func (p *planner) leased() int {
	sum := 0
	for _, d := range p.drafts {
		if d.node.Leases == 0 {
			return mostLeased
		}
		sum += d.node.Leases
	}
	return min(sum, mostLeased)
}

// share gives each node the same number of addresses, pod by pod.
func (p *planner) share(lan netip.Prefix, free []netip.Addr) {
	each := min(mostBrought, len(free)/len(p.drafts))
	for i := range p.drafts {
		node := &p.plan.Nodes[i]
		for pod := range each {
			if pod == len(node.PodAddresses) {
				node.PodAddresses = append(node.PodAddresses, nil)
			}
			node.PodAddresses[pod] = append(node.PodAddresses[pod], netip.PrefixFrom(free[i*each+pod], lan.Bits()))
		}
	}
}

// free returns unused addresses of a LAN: the first ones after the lab's own.
func (p *planner) free(lan netip.Prefix, most int) []netip.Addr {
	taken := p.taken()
	_, last := usable(lan)
	var list []netip.Addr
	for a := lan.Addr().Next(); len(list) < most && lan.Contains(a) && !last.Less(a); a = a.Next() {
		if !taken.Contains(a) {
			list = append(list, a)
		}
	}
	return list
}

// checkBrought warns if the IPAM plugin waits for addresses that a runtime would not pass.
func (d *document) checkBrought(plugin *value) {
	ipam := plugin.fields["ipam"]
	if ipam == nil || !strings.EqualFold(textOf(ipam.fields["type"]), "static") {
		return
	}
	if list := ipam.fields["addresses"]; list != nil && len(list.items) > 0 {
		return
	}
	if capabilities := plugin.fields["capabilities"]; capabilities != nil && capabilities.isTrue("ips") {
		return
	}
	if len(d.writtenArgs(plugin)) > 0 {
		return
	}
	d.warn(ipam, `static has no addresses, and without "capabilities": {"ips": true} a runtime passes none but in `+
		`CNI_ARGS; add one of the two`)
}

// LayerTwo reports whether pods get an interface on the LAN without an address: no plugin of the chain has an IPAM
// plugin, and the main plugin is one of upstream's.
func (f *File) LayerTwo() bool {
	return f.withoutIPAM() && (slices.Contains(attachedTypes, f.Plugins[0].Type) || f.LANBridge())
}

// NoAddresses reports whether pods get an interface without an address that leads to no LAN, as tap's does: no plugin
// of the chain has an IPAM plugin, and the main plugin is one of upstream's.
func (f *File) NoAddresses() bool { return f.withoutIPAM() && !f.LayerTwo() }

// withoutIPAM reports whether the main plugin is one of upstream's, which assign no addresses themselves, and no plugin
// of the chain has an IPAM plugin.
func (f *File) withoutIPAM() bool {
	return f.mainUpstream() && !slices.ContainsFunc(f.Plugins, func(p Plugin) bool { return p.IPAM != "" })
}

// Way is how a runtime passes addresses to an IPAM plugin that waits for them.
type Way string

const (
	// ByCapability passes them as runtimeConfig.ips (CONVENTIONS.md).
	ByCapability Way = "ips"
	// ByArgs passes one as IP in CNI_ARGS (CONVENTIONS.md).
	ByArgs Way = "CNI_ARGS"
	// ByConfig passes them in args.cni.ips of the plugin's configuration (CONVENTIONS.md), as Multus does with the
	// cni-args of a pod.
	ByConfig Way = "args.cni.ips"
)

// Brought returns how the runtime passes addresses, and the index of the plugin whose IPAM plugin waits for them. The
// way is empty if no plugin does.
func (f *File) Brought() (Way, int) {
	for i, plugin := range f.document.plugins() {
		a := f.document.ipam(plugin)
		if a == nil || !a.brought {
			continue
		}
		if slices.Contains(f.Plugins[i].Capabilities(), string(ByCapability)) {
			return ByCapability, i
		}
		if a.written {
			return ByConfig, i
		}
		return ByArgs, i
	}
	return "", 0
}

// StaysOnLAN reports whether pods on the LAN of their nodes have no route beyond it: the main plugin puts them there,
// and routesFixed holds without a default route.
func (f *File) StaysOnLAN() bool {
	return slices.Contains(attachedTypes, f.Plugins[0].Type) && f.routesFixed() &&
		!slices.ContainsFunc(f.routes(), isDefault)
}

// StaysBehindNode reports whether pods behind their node (bridge, ptp) have no route to any LAN of the nodes that the
// file does not mention, nor to one of lans. They then reach nothing but the pods of their node, and AnswersNode.
func (f *File) StaysBehindNode(lans []netip.Prefix) bool {
	return f.routed() && f.routesFixed() && !f.document.plugins()[0].isTrue("isDefaultGateway") &&
		!slices.ContainsFunc(f.routes(), func(route *value) bool {
			dst, err := netip.ParsePrefix(textOf(route.fields["dst"]))
			return isDefault(route) || err == nil && slices.ContainsFunc(lans, dst.Overlaps)
		})
}

// AnswersNode reports whether the main plugin gives the node an address in the network of its pods, so that a pod
// without a route beyond that network can answer its node.
func (f *File) AnswersNode() bool {
	main := f.document.plugins()[0]
	return f.Plugins[0].Type == "ptp" || main.isTrue("isGateway") || main.isTrue("isDefaultGateway")
}

// routesFixed reports whether the main plugin's IPAM plugin returns exactly the file's routes, and no plugin adds any:
// all plugins of the chain are upstream's.
func (f *File) routesFixed() bool {
	return !slices.ContainsFunc(f.Plugins, func(p Plugin) bool {
		_, upstream := upstreamKeys[p.Type]
		return !upstream
	}) && slices.Contains([]string{"static", "host-local"}, f.Plugins[0].IPAM)
}

// routes returns the routes of the main plugin's IPAM plugin.
func (f *File) routes() []*value {
	ipam := f.document.plugins()[0].fields["ipam"]
	if ipam == nil || ipam.fields["routes"] == nil {
		return nil
	}
	return ipam.fields["routes"].items
}

// isDefault reports whether a route leads everywhere, or is one half of such a route.
func isDefault(route *value) bool {
	dst, err := netip.ParsePrefix(textOf(route.fields["dst"]))
	return err == nil && dst.Bits() <= 1
}

// OnePod returns why only one pod can be attached at a time; empty if several can.
func (f *File) OnePod() string {
	if f.OneAddress() {
		return "the file gives every pod the same addresses"
	}
	if f.Passthru() {
		return "macvlan in mode passthru gives its whole master to one pod"
	}
	if f.OneMAC() {
		return "the file gives every pod the same MAC"
	}
	return ""
}

// OneMAC reports whether pods that share a network get the MAC that is written in the file. Those of ptp share none.
func (f *File) OneMAC() bool {
	return f.Plugins[0].Type != "ptp" && slices.ContainsFunc(f.document.plugins(), func(plugin *value) bool {
		return slices.Contains([]string{"macvlan", "tap", "tuning"}, textOf(plugin.fields["type"])) &&
			textOf(plugin.fields["mac"]) != ""
	})
}

// Passthru reports whether the kernel refuses a second pod on a node, since the first one has the whole uplink.
func (f *File) Passthru() bool {
	return slices.ContainsFunc(f.document.plugins(), func(plugin *value) bool {
		return textOf(plugin.fields["type"]) == "macvlan" && textOf(plugin.fields["mode"]) == "passthru"
	})
}

// OneAddress reports whether every pod gets the same addresses, because they are written in the file.
func (f *File) OneAddress() bool {
	for _, plugin := range f.document.plugins() {
		if a := f.document.ipam(plugin); a != nil && a.typ != "" {
			return len(a.fixed) > 0
		}
	}
	return false
}

// DHCPPlugin is the type of upstream's IPAM plugin that leases addresses.
const DHCPPlugin = "dhcp"

// dhcpSocket is the default path of the daemon's socket (plugins, ipam/dhcp).
const dhcpSocket = "/run/cni/dhcp.sock"

// DHCP returns the path of the socket of upstream's DHCP daemon, and whether the file uses its plugin.
func (f *File) DHCP() (socket string, uses bool) {
	for _, plugin := range f.document.plugins() {
		if ipam := plugin.fields["ipam"]; ipam != nil && textOf(ipam.fields["type"]) == DHCPPlugin {
			if socket := textOf(ipam.fields["daemonSocketPath"]); socket != "" {
				return socket, true
			}
			return dhcpSocket, true
		}
	}
	return "", false
}
