package conflist

import (
	"fmt"
	"slices"
)

// PlanBeside derives the lab network of a file for pods that are also on the network of a plan. It uses the same uplink
// if the file names that one or none, otherwise another one. Its error is one sentence.
func (f *File) PlanBeside(plan *Plan) (*Plan, error) {
	opts := PlanOptions{Avoid: plan.Networks()}
	for _, external := range plan.External {
		opts.Avoid = append(opts.Avoid, external.Prefix)
	}
	behind := f.routed()
	for _, n := range plan.Nodes {
		node := PlanNode{Name: n.Name}
		if behind {
			// Nodes reach each other's pods over the network that they already have.
			node.Own, node.Uplink = n.Addresses, n.Uplink
		}
		opts.Nodes = append(opts.Nodes, node)
	}
	if behind {
		opts.Subnets, opts.Avoid = plan.LAN, nil
	}
	beside, err := f.Plan(opts)
	if err != nil {
		return nil, err
	}
	if beside.Leases != nil || beside.Nodes[0].PodAddresses != nil {
		return nil, fmt.Errorf("%s: the lab brings addresses for the tested network alone, by DHCP or as a runtime; "+
			"take one with host-local beside it, or test this one", f.Path)
	}
	for _, theirs := range beside.Networks() {
		if beside.Routed && slices.Contains(plan.LAN, theirs) {
			continue
		}
		for _, ours := range plan.Networks() {
			if theirs.Overlaps(ours) {
				return nil, fmt.Errorf("%s: its network %s overlaps %s of %s; give one of the two another "+
					"subnet", f.Path, theirs, ours, plan.Network)
			}
		}
	}
	return beside, nil
}
