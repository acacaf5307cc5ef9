package runner

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// tunnel is the link between a hostile pod that forwards and the pod whose packets it forwards. Two pods that agree can
// make one over anything that lets them talk.
const tunnel = "cnitest-tunnel"

// forward makes the pod a router for another one, which sends through it. What the pod sends on has the address of the
// other one, and must not arrive.
func (a *assault) forward(ctx context.Context) (err error) {
	mac, err := a.openTunnel(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.closeTunnel(context.WithoutCancel(ctx))) }()
	a.attack.MACs = []string{mac}
	control, err := a.pod.Agent.StartTrap(ctx, agent.TrapArgs{Netns: a.pod.Netns, Frames: true})
	if err != nil {
		return err
	}
	trap, err := a.to.Agent.StartTrap(ctx, agent.TrapArgs{Netns: a.to.Netns, Frames: a.to != &a.node.Place})
	if err != nil {
		_, stopped := a.pod.Agent.StopTrap(ctx, control)
		return errors.Join(err, stopped)
	}
	sent := a.sendFrom(ctx, a.as)
	seen, err := a.to.Agent.StopTrap(ctx, trap)
	here, controlErr := a.pod.Agent.StopTrap(ctx, control)
	if err := errors.Join(sent, err, controlErr); err != nil {
		return err
	}
	for _, s := range seen {
		if slices.Contains(a.attack.As, s.Source) {
			return fmt.Errorf("%s got %s, which %s sent by way of %s", a.to.Name, s, a.as.Name, a.pod.Name)
		}
	}
	if !slices.ContainsFunc(here, func(s probe.Trapped) bool { return s.Interface == tunnel }) {
		return &cluster.UnfitError{Reason: fmt.Sprintf("nothing of %s arrived at %s, which should forward it",
			a.as.Name, a.pod.Name)}
	}
	return nil
}

// openTunnel connects the two pods, makes the hostile one a router, and returns its MAC there.
func (a *assault) openTunnel(ctx context.Context) (mac string, err error) {
	if err := a.pod.Agent.AddLink(ctx, agent.AddLinkArgs{
		Netns: a.pod.Netns, Name: tunnel, PeerNetns: a.as.Netns, PeerName: tunnel,
	}); err != nil {
		return "", err
	}
	here := []netip.Prefix{netip.MustParsePrefix("198.18.67.1/30")}
	settings := map[string]string{
		"net.ipv4.conf.all.forwarding": "1", "net.ipv4.conf.all.rp_filter": "0",
		"net.ipv4.conf." + tunnel + ".rp_filter": "0",
	}
	if slices.ContainsFunc(a.attack.As, netip.Addr.Is6) {
		here = append(here, netip.MustParsePrefix("2001:db8:67::1/126"))
		settings["net.ipv6.conf.all.forwarding"] = "1"
	}
	for _, address := range here {
		if err := a.pod.Agent.AddAddress(ctx, agent.AddressArgs{
			Netns: a.pod.Netns, Interface: tunnel, Address: address, NoDAD: true,
		}); err != nil {
			return "", err
		}
	}
	if err := a.pod.Agent.SetSysctls(ctx, a.pod.Netns, settings); err != nil {
		return "", err
	}
	links, err := a.pod.Agent.Links(ctx, a.pod.Netns)
	if err != nil {
		return "", err
	}
	l, found := agent.FindLink(links, tunnel)
	if !found {
		return "", fmt.Errorf("%s: no link %s", a.pod.Name, tunnel)
	}
	return l.MAC, nil
}

// closeTunnel removes the link between the two pods.
func (a *assault) closeTunnel(ctx context.Context) error {
	const scope = "pod"
	return a.pod.Agent.Revert(ctx, agent.RevertArgs{
		Change: snapshot.Change{
			Op: snapshot.Added, Item: snapshot.Item{Kind: snapshot.Link, Scope: scope, Name: tunnel},
		},
		Namespaces: map[string]string{scope: a.pod.Netns},
	})
}
