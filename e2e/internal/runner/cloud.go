package runner

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// clouds records how steps changed what the cloud gives nodes.
type clouds struct {
	before map[string]metadata.Instance // what a node had before steps changed it
	added  map[string][]addition        // what steps added, the last one at the end
}

// addition is what a step added to a node: an ENI by its ID, or an address.
type addition struct {
	eni     string
	address netip.Addr
}

// cloud runs a step of the target's cloud.
func (r *Runner) cloud(ctx context.Context, s scenario.Cloud) error {
	node, cloud := r.Env.Node(scenario.NodePlace+"/"+s.Node), r.Env.Cluster.Cloud()
	now := cloud.Instance(node)
	if _, ok := r.clouds.before[node.Name]; !ok {
		r.clouds.before[node.Name] = cloud.Instance(node)
	}
	var err error
	switch {
	case s.Add == scenario.AnENI:
		err = r.addENI(cloud, node, &now)
	case s.Add == scenario.AnAddress:
		err = r.addAddress(cloud, node, &now)
	default:
		err = r.takeAway(s, node, &now)
	}
	if err != nil {
		return err
	}
	return cloud.Set(ctx, node, now)
}

func (r *Runner) addENI(cloud cluster.Cloud, node *cluster.Node, i *metadata.Instance) error {
	eni, err := cloud.NewENI(node)
	if err != nil {
		return err
	}
	i.ENIs = append(i.ENIs, eni)
	r.clouds.added[node.Name] = append(r.clouds.added[node.Name], addition{eni: eni.ID})
	return nil
}

// addAddress gives an address to the ENI that has the fewest.
func (r *Runner) addAddress(cloud cluster.Cloud, node *cluster.Node, i *metadata.Instance) error {
	address, err := cloud.NewAddress(node)
	if err != nil {
		return err
	}
	fewest := 0
	for n, eni := range i.ENIs {
		if eni.Unmanaged == "" && len(eni.Secondary) < len(i.ENIs[fewest].Secondary) {
			fewest = n
		}
	}
	i.ENIs[fewest].Secondary = append(i.ENIs[fewest].Secondary, address)
	r.clouds.added[node.Name] = append(r.clouds.added[node.Name], addition{address: address})
	return nil
}

// takeAway removes what was added last, or the address of a pod.
func (r *Runner) takeAway(s scenario.Cloud, node *cluster.Node, i *metadata.Instance) error {
	if s.Of != "" {
		for _, p := range r.Env.PodsNamed(s.Of) {
			for _, address := range r.Env.Addresses(&p.Place, scenario.DefaultInterface) {
				if !i.Disown(address) {
					return fmt.Errorf("%s: the cloud did not give %s its address %s", node.Name, p.Name, address)
				}
			}
		}
		return nil
	}
	added := r.clouds.added[node.Name]
	last := len(added) - 1
	for last >= 0 && (added[last].eni == "") == (s.Remove == scenario.AnENI) {
		last--
	}
	if last < 0 {
		return fmt.Errorf("%s: no step added what is to be removed", node.Name)
	}
	gone := added[last]
	r.clouds.added[node.Name] = slices.Delete(added, last, last+1)
	i.ENIs = slices.DeleteFunc(i.ENIs, func(eni metadata.ENI) bool { return eni.ID == gone.eni })
	for n := range i.ENIs {
		i.ENIs[n].Secondary = slices.DeleteFunc(i.ENIs[n].Secondary, func(a netip.Addr) bool {
			return a == gone.address
		})
	}
	return nil
}

// RestoreClouds gives nodes what they had at the start, and waits until their daemons have noticed.
func (r *Runner) RestoreClouds(ctx context.Context) error {
	for _, node := range r.Env.Cluster.Nodes() {
		before, changed := r.clouds.before[node.Name]
		if !changed {
			continue
		}
		if err := r.Env.Cluster.Cloud().Set(ctx, node, before); err != nil {
			return err
		}
		if daemon := r.config.Target.Daemon; daemon != nil {
			if err := node.Agent.StopDaemon(ctx, daemon.Name); err != nil {
				return err
			}
			if err := cluster.StartDaemon(ctx, node, daemon); err != nil {
				return err
			}
		}
	}
	return nil
}
