package netns

import (
	"context"
	"errors"
	"fmt"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
)

// second is the fabric's bridge of the other network, if that has its own uplink.
const second = "second"

// planOther plans the other network of pods that are on several. It uses the uplink of the first if its conflist names
// the same uplink or none, otherwise another one.
func (l *lab) planOther() (err error) {
	other := l.req.With
	if other == nil {
		return nil
	}
	if l.req.Target != nil && l.req.Target.Cloud != nil {
		return errors.New("the lab's cloud has one network; leave the other one out")
	}
	l.other, err = other.PlanBeside(l.plan)
	return err
}

// apart reports whether the other network has its own uplink.
func (l *lab) apart() bool { return l.other != nil && l.other.Uplink != l.plan.Uplink }

func secondPort(index int) string { return fmt.Sprintf("second-%d", index) }

// plugOther gives a node its interface and files for the other network.
func (l *lab) plugOther(ctx context.Context, index int, node *cluster.Node) error {
	if l.other == nil {
		return nil
	}
	plan := l.other.Nodes[index]
	node.Other = plan.Conflist
	node.Networks = append(node.Networks, l.other.Networks()...)
	if l.other.Routed {
		return nil
	}
	s, _ := l.socket(index)
	s.addresses = plan.Addresses
	if !l.apart() {
		return s.configure(ctx, s.name)
	}
	s.name, s.mac = plan.Uplink, nodeMAC(index, 3)
	return l.plug(ctx, second, secondPort(index), s)
}

// plugOtherRouter gives the router its addresses on the other network.
func (l *lab) plugOtherRouter(ctx context.Context, router socket) error {
	if l.other == nil || l.other.Routed {
		return nil
	}
	router.addresses = l.other.Router
	if !l.apart() {
		return router.configure(ctx, router.name)
	}
	router.name, router.mac = "eth2", hostMAC(5)
	return l.plug(ctx, second, "host-router-2", router)
}

// podRoutes returns the networks of pods behind their nodes, each with the node's addresses.
func (l *lab) podRoutes() []conflist.NodePlan {
	var all []conflist.NodePlan
	for _, plan := range []*conflist.Plan{l.plan, l.other} {
		if plan != nil && plan.Routed {
			all = append(all, plan.Nodes...)
		}
	}
	return all
}
