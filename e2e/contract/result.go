package contract

import (
	"context"
	"net"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// results returns prevResult and the result of ADD in the newest format; ok is false if one cannot be read, which ADD-2
// reports.
func (l *lifecycle) results() (before, after *cni.Result, ok bool) {
	after, err := cni.ParseResult(l.pod.result)
	if err != nil {
		return nil, nil, false
	}
	if len(l.pod.before) == 0 {
		return &cni.Result{}, after, true
	}
	before, err = cni.ParseResult(l.pod.before)
	return before, after, err == nil
}

// result returns the lifecycle and the result of its ADD, which is nil if it cannot be read.
func (t *trial) result(ctx context.Context) (*lifecycle, *cni.Result, error) {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return nil, nil, err
	}
	_, result, ok := l.results()
	if !ok {
		return l, nil, nil
	}
	return l, result, nil
}

func checkInterfaces(ctx context.Context, t *trial) error {
	l, result, err := t.result(ctx)
	if result == nil {
		return err
	}
	for _, c := range l.made {
		if c.Op != snapshot.Added || c.Item.Kind != snapshot.Link {
			continue
		}
		sandbox, where := "", "on the node"
		if c.Item.Scope == l.pod.name {
			sandbox, where = l.pod.netns, "in the pod"
		}
		if !slices.ContainsFunc(result.Interfaces, func(i *types100.Interface) bool {
			return i.Name == c.Item.Name && i.Sandbox == sandbox
		}) {
			t.wrong([]cni.Call{l.add}, "ADD makes the interface %s %s, and the result does not list it with sandbox %q",
				c.Item.Name, where, sandbox)
		}
	}
	for _, i := range result.Interfaces {
		links, where := l.node, "on the node"
		if i.Sandbox != "" {
			if i.Sandbox != l.pod.netns {
				t.wrong([]cni.Call{l.add}, "the result has the interface %s with sandbox %q, want %q", i.Name,
					i.Sandbox, l.pod.netns)
				continue
			}
			links, where = l.inPod, "in the pod"
		}
		if _, found := agent.FindLink(links, i.Name); !found {
			t.wrong([]cni.Call{l.add}, "the result lists the interface %s, and there is none %s", i.Name, where)
		}
	}
	return nil
}

func checkAddresses(ctx context.Context, t *trial) error {
	l, result, err := t.result(ctx)
	if result == nil {
		return err
	}
	calls := []cni.Call{l.add}
	links := func(i *types100.Interface) []agent.Link {
		if i.Sandbox != "" {
			return l.inPod
		}
		return l.node
	}
	for _, i := range result.Interfaces {
		link, found := agent.FindLink(links(i), i.Name)
		if !found {
			continue // RES-2 reports it
		}
		if i.Mac != "" && !strings.EqualFold(i.Mac, link.MAC) {
			t.wrong(calls, "the result gives %s the MAC %s, and it has %s", i.Name, i.Mac, link.MAC)
		}
		if i.Mtu != 0 && i.Mtu != link.MTU {
			t.wrong(calls, "the result gives %s the MTU %d, and it has %d", i.Name, i.Mtu, link.MTU)
		}
	}
	for _, ip := range result.IPs {
		if ip.Interface == nil {
			continue
		}
		if *ip.Interface < 0 || *ip.Interface >= len(result.Interfaces) {
			t.wrong(calls, "the address %s is of interface %d of the result, which has %d", ip.Address.String(),
				*ip.Interface, len(result.Interfaces))
			continue
		}
		on := result.Interfaces[*ip.Interface]
		link, found := agent.FindLink(links(on), on.Name)
		if found && !slices.Contains(link.Addresses, ip.Address.String()) {
			t.wrong(calls, "the result gives %s the address %s, and it has %v", on.Name, ip.Address.String(),
				link.Addresses)
		}
		if gateway := ip.Gateway; gateway != nil && !ip.Address.Contains(gateway) && !single(ip.Address) {
			t.wrong(calls, "the gateway %s of the address %s is not in its network", gateway, ip.Address.String())
		}
	}
	return nil
}

// single reports whether a network has a single address, whose gateway must be outside.
func single(n net.IPNet) bool {
	ones, bits := n.Mask.Size()
	return ones == bits
}

func checkRoutes(ctx context.Context, t *trial) error {
	l, result, err := t.result(ctx)
	if result == nil {
		return err
	}
	for _, r := range result.Routes {
		if deviation := routeDeviation(l.attached.Items, l.pod.name, r); deviation != "" {
			t.wrong([]cni.Call{l.add}, "the result has the route %s, and %s", describe(r), deviation)
		}
	}
	return nil
}

func checkNoInterfaces(ctx context.Context, t *trial) error {
	l, result, err := t.result(ctx)
	if result == nil {
		return err
	}
	if len(result.Interfaces) > 0 {
		t.wrong([]cni.Call{l.add}, "the result has %d interfaces, want none", len(result.Interfaces))
	}
	for _, ip := range result.IPs {
		if ip.Interface != nil {
			t.wrong([]cni.Call{l.add}, "the address %s names interface %d, want none", ip.Address.String(),
				*ip.Interface)
		}
	}
	return nil
}
