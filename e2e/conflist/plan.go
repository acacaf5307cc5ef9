package conflist

import (
	"fmt"
	"net/netip"
	"slices"
)

// PlanOptions say what the lab needs and what the caller decides instead of the file.
type PlanOptions struct {
	// Nodes are the lab's nodes, at least one; names must differ.
	Nodes []PlanNode
	// Uplink replaces the interface that the file names; empty means the file's.
	Uplink string
	// Subnets are the LAN's prefixes if the file does not contain them (an IPAM plugin other than host-local and
	// static), or a larger network around the file's own subnets, or the nodes' LAN if pods are routed. Empty means the
	// file's, or one that the lab chooses.
	Subnets []netip.Prefix
	// Gateways are addresses of the LAN's router in addition to those that the file names.
	Gateways []netip.Addr
	// Avoid are prefixes that must not overlap with the networks that the lab chooses (services, a management network).
	Avoid []netip.Prefix
	// Devices is the number of devices that each node gets for its pods, if pods take one; 0 and more than 20 mean 20.
	Devices int
	// Chain changes the plugins of every node.
	Chain Chain
}

// PlanNode says what one node needs.
type PlanNode struct {
	Name string
	// Addresses is the number of pods that the node can have at the same time, in each range set; 0 means its whole
	// share.
	Addresses int
	// Leases is the number of addresses that a DHCP server on the LAN has for the node; 0 means enough.
	Leases int
	// Own are the addresses that an existing machine already has on its uplink; empty lets the plan choose. Either all
	// nodes have some, or none has.
	Own []netip.Prefix
	// Uplink is the name of that interface. It replaces the one that the file names, wherever a plugin names it; empty
	// leaves the file's.
	Uplink string
}

// Chain lists plugin objects to add to a chain. libcni gives a plugin the prevResult that follows from its place in the
// list (SPEC.md, section 3).
type Chain struct {
	// AfterMain are inserted after the first plugin, Append after the last one.
	AfterMain, Append []map[string]any
}

// Plan is the lab network that fits a file. Prefixes that stand for an address have its host bits set, as `ip addr`
// prints them.
type Plan struct {
	// Network is the name of the list.
	Network string
	// Uplink is the name of the first node's interface on the LAN; see NodePlan.
	Uplink string
	// Routed means that pods are behind their node (bridge, ptp) and not on the LAN: the lab has routes to
	// NodePlan.PodPrefixes.
	Routed bool
	// MTU is that of the uplink's segment: 1500 bytes, or more if a plugin asks for it.
	MTU int
	// LAN are the networks on the uplink's segment, in the order of the file.
	LAN []netip.Prefix
	// Router are the addresses of the LAN's router, including the conflist's gateways.
	Router []netip.Prefix
	// LANHost are the addresses of a host on the LAN, one for each prefix of LAN.
	LANHost []netip.Prefix
	// External are the networks behind the router, one for each family of LAN.
	External []External
	Nodes    []NodePlan
	// Leases are the addresses of the LAN that a DHCP server there may lease, if the file's IPAM plugin is dhcp.
	Leases []netip.Addr
	// Notes tell a reader of the report what was decided, one sentence each.
	Notes []string
}

// Networks returns the networks of the LAN, and those of pods behind their nodes.
func (p *Plan) Networks() []netip.Prefix {
	var all []netip.Prefix
	for _, lan := range p.LAN {
		all = append(all, lan.Masked())
	}
	for _, node := range p.Nodes {
		all = append(all, node.PodPrefixes...)
	}
	return all
}

// External is a network behind the lab's router, outside of everything that the file mentions.
type External struct {
	Prefix netip.Prefix
	// Router and Host are the addresses of the router and of the external host in this network, with the prefix's
	// length.
	Router, Host netip.Prefix
}

// NodePlan is the plan of one node.
type NodePlan struct {
	Name string
	// Uplink is the name of its interface on the LAN.
	Uplink string
	// Addresses are the node's own on the uplink, one for each prefix of Plan.LAN.
	Addresses []netip.Prefix
	// Conflist is the list for this node, as JSON: placeholders are replaced, and the ranges are the node's share.
	Conflist []byte
	// PodPrefixes are the networks of its pods, if Plan.Routed is set; the lab routes each via the node.
	PodPrefixes []netip.Prefix
	// PodAddresses are the addresses that a runtime passes if the file's IPAM plugin expects that: for each of the pods
	// that can exist at the same time, one of each prefix of Plan.LAN.
	PodAddresses [][]netip.Prefix
	// Devices are the devices that its pods get, one each, if the main plugin does not make them itself.
	Devices []Device
	// PoolSize is the number of pods that can have an address at the same time, at most MaxInt; 0 means that it is
	// unknown.
	PoolSize int
}

// Plan derives the lab network from the file. The same file and options result in the same plan. Its error is one
// sentence that says what does not fit. It does not change the file and may be called concurrently.
func (f *File) Plan(opts PlanOptions) (*Plan, error) {
	p, err := newPlanner(f, opts)
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{p.uplinks, p.networks, p.externals, p.shares, p.bring, p.devices, p.render} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

// planner is a plan that is being made.
type planner struct {
	file   *File
	opts   PlanOptions
	plan   *Plan
	drafts []*draft
}

// draft is the plan of one node that is being made.
type draft struct {
	node PlanNode
	// conf is the file with this node's placeholders; its NODE_IP is a sample.
	conf *File
	// plugin is the index of the plugin that has the ipam object; -1 if there is none.
	plugin int
	ipam   ipam
	line   int // of the ipam object
	share  share
}

func newPlanner(f *File, opts PlanOptions) (*planner, error) {
	if len(opts.Nodes) == 0 {
		return nil, fmt.Errorf("%s: plan has no nodes; want at least 1", f.Path)
	}
	p := &planner{file: f, opts: opts, plan: &Plan{Network: f.Network}}
	for i, node := range opts.Nodes {
		if slices.ContainsFunc(opts.Nodes[:i], func(other PlanNode) bool { return other.Name == node.Name }) {
			return nil, fmt.Errorf("%s: node/%s occurs twice in the plan", f.Path, node.Name)
		}
		values := sampleNode()
		values.name, values.index = node.Name, i+1
		conf, err := f.on(values)
		if err != nil {
			return nil, fmt.Errorf("node/%s: %w", node.Name, err)
		}
		d := &draft{node: node, conf: conf, plugin: -1}
		for index, plugin := range conf.document.plugins() {
			if a := conf.document.ipam(plugin); a != nil && a.typ != "" {
				d.plugin, d.ipam = index, *a
				d.line = conf.document.line(plugin.fields["ipam"].offset)
				break
			}
		}
		p.drafts = append(p.drafts, d)
	}
	return p, nil
}

func (p *planner) note(format string, args ...any) {
	if note := fmt.Sprintf(format, args...); !slices.Contains(p.plan.Notes, note) {
		p.plan.Notes = append(p.plan.Notes, note)
	}
}

// errorf adds the place of a range to an error.
func (p *planner) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", p.file.Path, line, fmt.Sprintf(format, args...))
}

func (p *planner) uplinks() error {
	for _, d := range p.drafts {
		name := d.conf.chainUplink()
		switch {
		case d.node.Uplink != "":
			if name != "" && name != d.node.Uplink {
				p.note("node/%s: the uplink is %s; the conflist names %s, which was replaced", d.node.Name,
					d.node.Uplink, name)
			}
			name = d.node.Uplink
		case p.opts.Uplink != "":
			if name != "" && name != p.opts.Uplink {
				p.note("node/%s: the uplink is %s as the caller says; the conflist names %s", d.node.Name,
					p.opts.Uplink, name)
			}
			name = p.opts.Uplink
		case name == "":
			name = defaultUplink
		}
		if err := validLinkName(name); err != nil {
			return fmt.Errorf("%s: %w", p.file.Path, err)
		}
		p.plan.Nodes = append(p.plan.Nodes, NodePlan{Name: d.node.Name, Uplink: name})
	}
	p.plan.Uplink, p.plan.MTU = p.plan.Nodes[0].Uplink, p.file.lanMTU()
	return nil
}

// knows reports whether the file says from where pods get their addresses.
func (a ipam) knows() bool { return len(a.sets)+len(a.fixed)+len(a.elsewhere) > 0 }

// spans returns all ranges and fixed addresses.
func (a ipam) spans() []span { return slices.Concat(slices.Concat(a.sets...), a.fixed, a.elsewhere) }

// alike reports whether all nodes' files have the same ranges, so that each node needs its own share.
func (p *planner) alike() bool {
	first := p.drafts[0].ipam
	return !slices.ContainsFunc(p.drafts[1:], func(d *draft) bool {
		return !slices.EqualFunc(d.ipam.sets, first.sets, slices.Equal[[]span])
	})
}
