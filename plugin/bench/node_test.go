package bench

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/plugin/internal/cost"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// node is a node of one plugin that is measured, with attachments that stay.
type node struct {
	t        *testing.T
	ns       ns.NetNS
	plugin   string
	standing int
	crowd    []ns.NetNS // the pods of those, each with perNamespace interfaces
}

// This many interfaces of one namespace stand for as many pods: a namespace for each of 3,000 would measure the
// machine's memory.
const perNamespace = 100

func newNode(t *testing.T, plugin string) *node {
	t.Helper()
	n := &node{t: t, ns: plugintest.NewNamespace(t, map[string]string{"ipv4/ip_forward": "1"}), plugin: plugin}
	lan := plugintest.NewNamespace(t, nil)
	plugintest.In(t, n.ns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eno1"
		if err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(int(lan.Fd())),
		}); err != nil {
			return err
		}
		if err := plugintest.Configure("eno1", "10.1.0.1/16"); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 1, 255, 254)})
	})
	plugintest.In(t, lan, func() error { return plugintest.Configure("up0", "10.1.255.254/16") })
	return n
}

// macvlan describes the link that the plugin before a chained one has made.
func (n *node) macvlan(pod ns.NetNS, ifName string, number int, addresses ...string) {
	n.t.Helper()
	plugintest.In(n.t, n.ns, func() error {
		attrs := netlink.NewLinkAttrs()
		// Made in the pod: moving a link from one namespace to another waits for every reader in the kernel.
		attrs.Name, attrs.HardwareAddr, attrs.Namespace = ifName, macOf(number), netlink.NsFd(int(pod.Fd()))
		parent, err := netlink.LinkByName("eno1")
		if err != nil {
			return err
		}
		attrs.ParentIndex = parent.Attrs().Index
		return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE})
	})
	plugintest.In(n.t, pod, func() error { return plugintest.Configure(ifName, addresses...) })
}

func macOf(number int) net.HardwareAddr {
	return net.HardwareAddr{2, 1, 0, 0, byte(number >> 8), byte(number)}
}

// address returns the address of a pod: the node has 10.1.0.1.
func address(number int) string { return fmt.Sprintf("10.1.%d.%d/16", 1+number/250, 1+number%250) }

// chained returns a chained plugin's pod with a link that macvlan made.
func (n *node) chained(pod ns.NetNS, id, ifName string, number int, keys map[string]any) cost.Subject {
	conf := map[string]any{
		"cniVersion": "1.1.0", "name": n.plugin, "type": n.plugin,
		"prevResult": map[string]any{
			"cniVersion": "1.1.0",
			"interfaces": []any{map[string]any{"name": ifName, "mac": macOf(number).String(), "sandbox": pod.Path()}},
			"ips":        []any{map[string]any{"address": address(number), "interface": 0, "gateway": "10.1.255.254"}},
			"routes":     []any{map[string]any{"dst": "0.0.0.0/0", "gw": "10.1.255.254"}},
		},
	}
	for key, value := range keys {
		conf[key] = value
	}
	s := n.subject(n.plugin, pod, id, ifName, conf, []string{"ADD", "CHECK", "DEL"})
	s.Result = true // CHECK and DEL get the result of the chain, with what this plugin added
	return s
}

func (n *node) subject(plugin string, pod ns.NetNS, id, ifName string, conf map[string]any,
	verbs []string,
) cost.Subject {
	n.t.Helper()
	raw, err := json.Marshal(conf)
	if err != nil {
		n.t.Fatal(err)
	}
	return cost.Subject{
		Name: plugin, Binary: filepath.Join(plugintest.BinDir(), plugin), Node: n.ns, Netns: pod.Path(), ID: id,
		IfName: ifName,
		Conf:   string(raw), Verbs: verbs,
	}
}

// keys returns the keys of the plugin's configuration.
func (n *node) keys(number int) map[string]any {
	switch n.plugin {
	case "route":
		return map[string]any{"master": "eno1"}
	case "veth-to-host":
		return map[string]any{"hostInterface": "eno1", "containerInterface": fmt.Sprintf("veth%d", number)}
	}
	return nil
}

// fill attaches pods with the plugin itself until so many stand.
func (n *node) fill(count int) {
	n.t.Helper()
	var group errgroup.Group
	group.SetLimit(4)
	for ; n.standing < count; n.standing++ {
		number := n.standing
		if number%perNamespace == 0 {
			n.crowd = append(n.crowd, plugintest.NewNamespace(n.t, nil))
		}
		pod, ifName := n.crowd[number/perNamespace], fmt.Sprintf("m%d", number)
		n.macvlan(pod, ifName, number)
		s := n.chained(pod, fmt.Sprintf("standing-%d", number), ifName, number, n.keys(number))
		group.Go(func() error {
			_, _, err := s.Run("ADD", "")
			return err
		})
	}
	if err := group.Wait(); err != nil {
		n.t.Fatal(err)
	}
}

// The pods that are measured have numbers beyond those that stand.
const firstMeasured = 5000

// pod returns one for a chained plugin.
func (n *node) pod(number int) cost.Subject {
	n.t.Helper()
	pod := plugintest.NewNamespace(n.t, nil)
	n.macvlan(pod, "eth0", firstMeasured+number, address(firstMeasured+number))
	return n.chained(pod, fmt.Sprintf("measured-%d", number), "eth0", firstMeasured+number, n.keys(0))
}

// upstream returns a pod that upstream's plugin makes with host-local.
func (n *node) upstream(plugin string, number int) cost.Subject {
	n.t.Helper()
	conf := map[string]any{
		"cniVersion": "1.1.0", "name": plugin, "type": plugin,
		"ipam": map[string]any{"type": "host-local", "ranges": []any{[]any{map[string]any{"subnet": "10.2.0.0/16"}}}},
	}
	if plugin == "macvlan" {
		conf["master"] = "eno1"
	}
	pod := plugintest.NewNamespace(n.t, nil)
	s := n.subject(plugin, pod, fmt.Sprintf("measured-%d", number), "eth0", conf, []string{"ADD", "CHECK", "DEL"})
	s.Result = true
	return s
}
