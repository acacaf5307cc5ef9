package runner

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/metadata"
)

// reachDaemon checks that neither the pod nor a user of its node who is nobody reaches the daemon.
func (r *Runner) reachDaemon(ctx context.Context, a *assault) error {
	daemon := r.config.Target.Daemon
	exposed, err := a.node.Agent.Exposure(ctx, daemon.Name)
	if err != nil {
		return err
	}
	if len(exposed.Open) > 0 {
		return fmt.Errorf("%s: every user may connect to the daemon %s: %s keeps a connection of the user nobody",
			a.node.Name, daemon.Name, exposed.Open[0])
	}
	if len(exposed.Changeable) > 0 {
		return fmt.Errorf("%s: every user may change what the daemon %s keeps: %s", a.node.Name, daemon.Name,
			exposed.Changeable[0])
	}
	addresses, err := addressesOfNode(ctx, a.node)
	if err != nil {
		return err
	}
	reached, err := a.reach(ctx, places(exposed.Ports, daemon.Open, addresses)...)
	if err != nil {
		return err
	}
	at := texts(reached)
	reached, err = a.reachFrozen(ctx, daemon.Name, places(exposed.Datagrams, daemon.Open, addresses)...)
	for _, text := range texts(reached) {
		at = append(at, text+" over UDP")
	}
	if err != nil || len(at) == 0 {
		return err
	}
	return fmt.Errorf("%s reaches the daemon %s of %s at %s; what pods may reach is open in the target file",
		a.pod.Name, daemon.Name, a.node.Name, strings.Join(at, ", "))
}

// places returns where a node with addresses has ports, without those that are open to pods.
func places(ports []netip.AddrPort, open []uint16, addresses []netip.Addr) (all []netip.AddrPort) {
	for _, port := range ports {
		if slices.Contains(open, port.Port()) {
			continue
		}
		at := []netip.Addr{port.Addr()}
		if port.Addr().IsUnspecified() {
			at = slices.DeleteFunc(slices.Clone(addresses), func(addr netip.Addr) bool {
				// A socket for IPv6 gets what is for IPv4, too, unless it refuses that.
				return port.Addr().Is4() && addr.Is6()
			})
		}
		for _, addr := range at {
			all = append(all, netip.AddrPortFrom(addr, port.Port()))
		}
	}
	return all
}

// reachFrozen returns the addresses at which a daemon gets datagrams of the pod. No datagram needs an answer: while the
// daemon is frozen it reads nothing, and what arrives can be seen in the queues of its sockets.
func (a *assault) reachFrozen(
	ctx context.Context, daemon string, all ...netip.AddrPort,
) (reached []netip.AddrPort, err error) {
	if len(all) == 0 {
		return nil, nil
	}
	if err := a.node.Agent.FreezeDaemon(ctx, agent.FreezeArgs{Name: daemon}); err != nil {
		return nil, err
	}
	defer func() {
		thaw := agent.FreezeArgs{Name: daemon, Thaw: true}
		err = errors.Join(err, a.node.Agent.FreezeDaemon(context.WithoutCancel(ctx), thaw))
	}()
	if err := a.pod.Agent.Send(ctx, agent.ReachArgs{Netns: a.pod.Netns, Addresses: all}); err != nil {
		return nil, err
	}
	return a.node.Agent.Queued(ctx, daemon)
}

// metadataServices are where clouds have their metadata service.
func metadataServices() []netip.AddrPort {
	var all []netip.AddrPort
	for _, addr := range []string{metadata.Address, metadata.Address6} {
		all = append(all, netip.AddrPortFrom(netip.MustParseAddr(addr), 80))
	}
	return all
}

// reachMetadata checks that the pod does not reach the metadata service, where its node reaches it.
func (a *assault) reachMetadata(ctx context.Context) error {
	known, err := a.node.Agent.Reach(ctx, agent.ReachArgs{Netns: a.node.Netns, Addresses: metadataServices()})
	if err != nil {
		return err
	}
	if len(known) == 0 {
		return &cluster.UnfitError{Reason: fmt.Sprintf("%s reaches no metadata service itself", a.node.Name)}
	}
	reached, err := a.reach(ctx, known...)
	if err != nil || len(reached) == 0 {
		return err
	}
	return fmt.Errorf("%s reaches the metadata service of %s at %s", a.pod.Name, a.node.Name,
		strings.Join(texts(reached), " and at "))
}

// reach returns the addresses that accept a connection of the pod.
func (a *assault) reach(ctx context.Context, all ...netip.AddrPort) ([]netip.AddrPort, error) {
	if len(all) == 0 {
		return nil, nil
	}
	return a.pod.Agent.Reach(ctx, agent.ReachArgs{Netns: a.pod.Netns, Addresses: all})
}

// addressesOfNode returns the addresses of a node's links except for lo.
func addressesOfNode(ctx context.Context, node *cluster.Node) ([]netip.Addr, error) {
	links, err := node.Agent.Links(ctx, node.Netns)
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, l := range links {
		if l.Name == "lo" {
			continue
		}
		for _, prefix := range l.Prefixes() {
			all = append(all, prefix.Addr())
		}
	}
	return all, nil
}

// texts returns addresses as texts.
func texts(all []netip.AddrPort) []string {
	var words []string
	for _, addr := range all {
		words = append(words, addr.String())
	}
	return words
}
