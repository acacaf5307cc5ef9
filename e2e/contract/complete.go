package contract

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// completeness returns the requirements about what the result of ADD may not leave out.
func completeness() []Requirement {
	return []Requirement{
		{
			ID: "RES-6", Level: Stated, Section: "5, Add success, ips and routes", Roles: inChain(), Since: "0.3.0",
			Text: "The result lists all addresses that ADD gave the pod, and all routes of its main table.",
			Why: "Later plugins move, copy or check the routes of prevResult, and the status of the pod has its " +
				"addresses from there.",
			How: "Compares the addresses and routes that appeared with the result. What the kernel makes by itself " +
				"is exempt, and so are routes to the networks and gateways of the result's addresses.",
			check: checkListsAll,
		},
		{
			ID: "RES-7", Level: Stated, Section: "5, Add success, interfaces", Roles: inChain(), Since: "0.3.0",
			Text: "An interface of the result has its mac and, since 1.1.0, its mtu; socketPath is absolute; files " +
				"and devices that it names exist.",
			Why: "Announcements on the network, tunnels and DPDK programs take these values from the result, and " +
				"find nothing.",
			How: "Each interface that is new in the result and exists: mac and mtu are there if the kernel has them; " +
				"socketPath and pciID are looked up on the node.",
			check: checkInterfaceKeys,
		},
	}
}

// kernelMade reports whether the kernel makes an address or a route by itself.
func kernelMade(i snapshot.Item) bool {
	words := routeWords(i)
	own := wordAfter(words, "proto")
	return strings.HasPrefix(i.Name, "fe80:") || strings.HasPrefix(i.Name, "ff00:") || own == "kernel" || own == "ra" ||
		i.Kind == snapshot.Address && (slices.Contains(words, "dynamic") || wordAfter(words, "scope") != "global" ||
			wordAfter(words, "dev") == "lo")
}

func checkListsAll(ctx context.Context, t *trial) error {
	l, result, err := t.result(ctx)
	if result == nil {
		return err
	}
	for _, c := range l.made {
		if c.Op == snapshot.Removed || c.Item.Scope != l.pod.name || kernelMade(c.Item) {
			continue
		}
		switch c.Item.Kind {
		case snapshot.Address:
			// The same address on another interface of the pod is listed once, with the length of its network there.
			text, _, _ := strings.Cut(c.Item.Name, "/")
			address := net.ParseIP(text)
			if c.Op == snapshot.Added && !slices.ContainsFunc(result.IPs, func(ip *types100.IPConfig) bool {
				return ip.Address.IP.Equal(address)
			}) {
				t.wrong([]cni.Call{l.add}, "ADD gives the pod the address %s, and the result does not list it",
					c.Item.Name)
			}
		case snapshot.Route:
			if !unlisted(c.Item, result) {
				continue
			}
			t.wrong([]cni.Call{l.add}, "ADD gives the pod the route %s, and the result does not list it",
				strings.TrimSpace(c.Item.Name+" "+c.Item.Text))
		}
	}
	return nil
}

// unlisted reports whether a result says nothing of a route of the main table.
func unlisted(i snapshot.Item, result *cni.Result) bool {
	words := routeWords(i)
	text := words[0]
	if text == "default" {
		text = "0.0.0.0/0"
	}
	_, dst, err := net.ParseCIDR(text)
	if err != nil || wordAfter(words, "table") != "main" {
		return false
	}
	ones, _ := dst.Mask.Size()
	for _, ip := range result.IPs {
		of, _ := ip.Address.Mask.Size()
		if ip.Address.Contains(dst.IP) && ones >= of || single(*dst) && ip.Gateway.Equal(dst.IP) {
			return false
		}
	}
	return !slices.ContainsFunc(result.Routes, func(r *types.Route) bool { return leads(i, r) })
}

func checkInterfaceKeys(ctx context.Context, t *trial) error {
	l, result, err := t.result(ctx)
	if result == nil {
		return err
	}
	b, err := t.sharedBench(ctx)
	if err != nil {
		return err
	}
	before, _, _ := l.results()
	calls := []cni.Call{l.add}
	for _, i := range result.Interfaces {
		if slices.ContainsFunc(before.Interfaces, func(o *types100.Interface) bool {
			return o.Name == i.Name && o.Sandbox == i.Sandbox
		}) {
			continue
		}
		links := l.node
		if i.Sandbox != "" {
			links = l.inPod
		}
		if link, found := agent.FindLink(links, i.Name); found { // RES-2 reports those that do not exist
			if hardware, _ := net.ParseMAC(link.MAC); i.Mac == "" && strings.Trim(hardware.String(), "0:") != "" {
				t.wrong(calls, "the result gives %s no mac, and it has %s", i.Name, link.MAC)
			}
			if atLeast(t.version, "1.1.0") && i.Mtu == 0 && link.MTU != 0 {
				t.wrong(calls, "the result gives %s no mtu, and it has %d", i.Name, link.MTU)
			}
		}
		for _, named := range []struct{ key, path, value string }{
			{"socketPath", i.SocketPath, i.SocketPath}, {"pciID", "/sys/bus/pci/devices/" + i.PciID, i.PciID},
		} {
			if named.value == "" {
				continue
			}
			if !filepath.IsAbs(named.path) {
				t.wrong(calls, "the result gives %s the %s %q, want an absolute path", i.Name, named.key, named.value)
				continue
			}
			names, err := b.node.Agent.ListDir(ctx, filepath.Dir(named.path))
			if err != nil {
				return err
			}
			if !slices.Contains(names, filepath.Base(named.path)) {
				t.wrong(calls, "the result gives %s the %s %q, which does not exist", i.Name, named.key, named.value)
			}
		}
	}
	return nil
}
