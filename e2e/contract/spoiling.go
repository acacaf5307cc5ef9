package contract

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// These are the ways in which something that ADD made can be wrong, and not gone.
const (
	otherMAC     = "another MAC"
	otherGateway = "another gateway"
)

// spoilable returns mutations that make something wrong which the result of ADD describes otherwise: only what it lists
// says what is right. The MTU is left out, since upstream's tuning changes it and does not say so in its result.
func (l *lifecycle) spoilable() []mutation {
	before, result, ok := l.results()
	if !ok {
		return nil
	}
	var list []mutation
	for _, c := range l.made {
		if c.Op != snapshot.Added || c.Item.Scope != l.pod.name {
			continue
		}
		add := func(spoilt string) {
			list = append(list, mutation{
				what:        fmt.Sprintf("%s %s%s with %s", c.Item.Kind, c.Item.Name, place(c), spoilt),
				requirement: "CHK-3", change: c, spoilt: spoilt,
			})
		}
		switch c.Item.Kind {
		case snapshot.Link:
			for _, i := range ownInterfaces(before, result, l.pod.netns) {
				if i.Name == c.Item.Name && i.Mac != "" {
					add(otherMAC)
				}
			}
		case snapshot.Route:
			// A route with a metric cannot be replaced by one without. Where a result leaves out the gateway of a
			// route, it says only whose gateway may be used.
			if demanded(c) == "CHK-3" && !strings.Contains(c.Item.Name, "metric") && wordAfter(routeWords(c.Item),
				"via") != "" && slices.ContainsFunc(result.Routes, func(r *types.Route) bool {
				return r.GW != nil && leads(c.Item, r)
			}) {
				add(otherGateway)
			}
		}
	}
	return list
}

// ownInterfaces returns the interfaces of a result in a namespace that are not in prevResult.
func ownInterfaces(before, result *cni.Result, sandbox string) []*cni.Interface {
	return slices.DeleteFunc(slices.Clone(result.Interfaces), func(i *cni.Interface) bool {
		return i.Sandbox != sandbox || slices.ContainsFunc(before.Interfaces, func(o *cni.Interface) bool {
			return o.Name == i.Name && o.Sandbox == i.Sandbox
		})
	})
}

// spoil makes something in a pod wrong.
func (b *bench) spoil(ctx context.Context, p *pod, m mutation) error {
	name := m.change.Item.Name
	links, err := b.node.Agent.Links(ctx, p.netns)
	if err != nil {
		return err
	}
	link, _ := agent.FindLink(links, name)
	if m.spoilt == otherMAC {
		mac, err := net.ParseMAC(link.MAC)
		if err != nil {
			return err
		}
		mac[len(mac)-1] ^= 0x55
		return b.node.Agent.SetMAC(ctx, agent.SetMACArgs{Netns: p.netns, Name: name, MAC: mac.String()})
	}
	words := routeWords(m.change.Item)
	to := words[0]
	if to == "default" {
		to = "0.0.0.0/0"
	}
	destination, err := netip.ParsePrefix(to)
	if err != nil {
		return err
	}
	gateway, err := netip.ParseAddr(wordAfter(words, "via"))
	if err != nil {
		return err
	}
	return b.node.Agent.AddRoute(ctx, agent.WayArgs{
		Netns: p.netns, Destination: destination, Gateway: gateway.Next(),
	})
}

// misledCall is a CHECK with a prevResult that differs from the pod.
type misledCall struct {
	what string
	call cni.Call
}

// misleading returns prevResults that differ from the pod in one thing each, with what that is.
func (b *bench) misleading(p *pod) (map[string]*cni.Result, error) {
	edits := map[string]func(result *cni.Result, own []*cni.Interface) bool{
		"addresses": func(result *cni.Result, _ []*cni.Interface) bool {
			for _, ip := range result.IPs {
				ip.Address.IP[len(ip.Address.IP)-1] ^= 0x55
			}
			return len(result.IPs) > 0
		},
		"interfaces": func(_ *cni.Result, own []*cni.Interface) bool {
			for _, i := range own {
				i.Name = "cnitest9"
			}
			return len(own) > 0
		},
		"sandboxes": func(_ *cni.Result, own []*cni.Interface) bool {
			for _, i := range own {
				i.Sandbox = agent.NamespacePath("cnitest-nowhere")
			}
			return len(own) > 0
		},
		"hardware addresses": func(_ *cni.Result, own []*cni.Interface) bool {
			altered := false
			for _, i := range own {
				if mac, err := net.ParseMAC(i.Mac); err == nil {
					mac[len(mac)-1] ^= 0x55
					i.Mac, altered = mac.String(), true
				}
			}
			return altered
		},
	}
	all := map[string]*cni.Result{}
	for what, edit := range edits {
		result, err := cni.ParseResult(p.result)
		if err != nil {
			return nil, nil // ADD-2 reports it
		}
		before := &cni.Result{}
		if len(p.before) > 0 {
			if before, err = cni.ParseResult(p.before); err != nil {
				return nil, err
			}
		}
		if edit(result, ownInterfaces(before, result, p.netns)) {
			all[what] = result
		}
	}
	return all, nil
}

// loseAll attaches a pod on a new node, removes everything that ADD made but the plugin's own record, and calls DEL.
func (t *trial) loseAll(ctx context.Context) error {
	return t.lose(ctx, "all removed that ADD made", func(c snapshot.Change) bool {
		return !isDir(c.Item) && !isRecord(c)
	})
}

// loseFiles does the same with all files that ADD made, and nothing else: somebody emptied /run or /tmp, and the node
// goes on (k8snetworkplumbingwg/ovs-cni PR #304).
func (t *trial) loseFiles(ctx context.Context) error {
	return t.lose(ctx, "all files removed that ADD made", func(c snapshot.Change) bool {
		return c.Item.Kind == snapshot.File
	})
}

// lose attaches a pod on a new node, removes what ADD made as far as it is lost, and calls DEL. What went with
// something else cannot be removed any more.
func (t *trial) lose(ctx context.Context, what string, lost func(snapshot.Change) bool) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	started, err := b.wholeState(ctx, p)
	if err != nil {
		return err
	}
	if _, err := b.add(ctx, p); err != nil {
		return err
	}
	after, err := b.wholeState(ctx, p)
	if err != nil {
		return err
	}
	made := ownChanges(snapshot.Diff(started, after))
	record := false
	for _, c := range slices.Backward(made) {
		if snapshot.Revertible(c) != nil || !lost(c) {
			continue
		}
		record = record || isRecord(c)
		_ = b.node.Agent.Revert(ctx, agent.RevertArgs{Change: c, Namespaces: map[string]string{p.name: p.netns}})
	}
	del, err := b.must(ctx, cni.Del, p)
	if err != nil {
		return err
	}
	l, err := b.lifecycle(ctx)
	if err != nil {
		return err
	}
	left, err := b.leftAfter(ctx, before, l.residue, p)
	if record {
		// Without its record nobody knows how the pod was before, and that ends with the pod.
		left = slices.DeleteFunc(left, func(c snapshot.Change) bool { return c.Item.Scope != "" })
	}
	b.clean(aftermath{del, left}, "DEL with "+what)
	return err
}
