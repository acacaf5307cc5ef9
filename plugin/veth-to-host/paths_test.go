package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// path is one path through the lab. Everything that it says about IPv4 addresses holds for IPv6 too.
type path struct {
	name    string
	from    ns.NetNS
	network string
	to      string
	port    int
	want    string
}

// cluster is the lab with pods, services and servers: p1 and p1b are on node1 and p2 on node2, each with a veth; p1c is
// on node1 with macvlan alone.
type cluster struct {
	*lab
	p1, p1b, p1c, p2 *pod
}

func newCluster(t *testing.T, mode netlink.MacvlanMode, changes map[string]any, before ...func(*lab)) *cluster {
	t.Helper()
	l := newLab(t, before...)
	c := &cluster{
		lab: l, p1: l.pod(l.node1, "p1", 50, mode), p1b: l.pod(l.node1, "p1b", 51, mode),
		p1c: l.pod(l.node1, "p1c", 52, mode), p2: l.pod(l.node2, "p2", 55, mode),
	}
	l.node1.mustAdd(t, c.p1, changes)
	l.node1.mustAdd(t, c.p1b, changes)
	l.node2.mustAdd(t, c.p2, changes)
	kp := proxy{services: map[string]string{}}
	for service, endpoint := range map[string]string{
		"10.96.0.1": "10.10.20.55", "10.96.0.3": "10.10.20.51", "10.96.0.4": "10.10.20.52", "10.96.0.5": "10.10.20.152",
		"10.96.0.6": "10.10.20.153", "10.96.0.7": "10.10.20.50", "10.96.0.8": "172.31.0.2",
	} {
		kp.services[service], kp.services[ipv6(service)] = endpoint, ipv6(endpoint)
	}
	for _, np := range []nodePort{
		{30080, "10.10.20.50", false}, {30081, "10.10.20.50", true}, {30082, "10.10.20.55", true},
	} {
		kp.nodePorts = append(kp.nodePorts, np, nodePort{np.port, ipv6(np.endpoint), np.cluster})
	}
	kp.install(t, l.node1.ns)
	kp.install(t, l.node2.ns)
	for name, n := range map[string]ns.NetNS{
		"p1": c.p1.ns, "p1b": c.p1b.ns, "p1c": c.p1c.ns, "p2": c.p2.ns, "node1": l.node1.ns, "node2": l.node2.ns,
		"ext": l.ext, "lan": l.lan,
	} {
		serve(t, n, name)
	}
	return c
}

// ipv6 returns the IPv6 address that corresponds to an IPv4 address in the lab.
func ipv6(text string) string {
	return strings.NewReplacer("10.10.20.", "fd00:20::", "10.96.0.", "fd00:96::", "172.31.0.", "fd00:31::",
		"192.168.121.", "fd00:121::").Replace(text)
}

// paths returns the seventeen paths that a pod on an underlay is expected to have.
func (c *cluster) paths() []path {
	p1 := c.p1.ns
	return []path{
		{"lan to node port, Local", c.lan, "tcp", "10.10.20.152", 30080, "p1 sees 10.10.20.200"},
		{"ext to node port, Local", c.ext, "tcp", "10.10.20.152", 30080, "p1 sees 172.31.0.2"},
		{"lan to node port, Cluster, same node", c.lan, "tcp", "10.10.20.152", 30081, "p1 sees 10.10.20.152"},
		{"lan to node port, Cluster, other node", c.lan, "tcp", "10.10.20.152", 30082, "p2 sees 10.10.20.152"},
		{"pod to service, other node", p1, "tcp", "10.96.0.1", 80, "p2 sees 10.10.20.50"},
		{"pod to service, other node, UDP", p1, "udp", "10.96.0.1", 80, "p2 sees 10.10.20.50"},
		{"pod to service, same node", p1, "tcp", "10.96.0.3", 80, "p1b sees 10.10.20.50"},
		{"pod to service, same node, macvlan alone", p1, "tcp", "10.96.0.4", 80, "p1c sees 10.10.20.50"},
		{"pod to service, own node", p1, "tcp", "10.96.0.5", 80, "node1 sees 10.10.20.50"},
		{"pod to service, other node itself", p1, "tcp", "10.96.0.6", 80, "node2 sees 10.10.20.50"},
		{"pod to service, itself", p1, "tcp", "10.96.0.7", 80, "p1 sees 10.10.20.152"},
		{"pod to service, off the subnet", p1, "tcp", "10.96.0.8", 80, "ext sees 10.10.20.50"},
		{"pod to ext", p1, "tcp", "172.31.0.2", 8080, "ext sees 10.10.20.50"},
		{"ext to pod", c.ext, "tcp", "10.10.20.50", 8080, "p1 sees 172.31.0.2"},
		{"lan to pod", c.lan, "tcp", "10.10.20.50", 8080, "p1 sees 10.10.20.200"},
		{"node to pod", c.node1.ns, "tcp", "10.10.20.50", 8080, "p1 sees 10.10.20.152"},
		{"pod to node", p1, "tcp", "10.10.20.152", 8080, "node1 sees 10.10.20.50"},
	}
}

// walk tries paths in both families and compares everything that the far ends saw.
func walk(t *testing.T, paths []path) {
	t.Helper()
	want, got := map[string]string{}, map[string]string{}
	for _, p := range paths {
		want[p.name], want["IPv6 "+p.name] = p.want, ipv6(p.want)
		wait := patience
		if p.want == noAnswer {
			wait = 300 * time.Millisecond
		}
		got[p.name] = askFor(wait, p.from, p.network, p.to, p.port)
		got["IPv6 "+p.name] = askFor(wait, p.from, p.network, ipv6(p.to), p.port)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPaths(t *testing.T) {
	t.Run("bridge", func(t *testing.T) {
		walk(t, newCluster(t, bridgeMode, nil).paths())
	})
	// Packets that go back into the pod cannot reach another macvlan of its node: these modes isolate them.
	for name, mode := range map[string]netlink.MacvlanMode{
		"private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA,
	} {
		t.Run(name, func(t *testing.T) {
			paths := newCluster(t, mode, nil).paths()
			for i := range paths {
				if paths[i].to == "10.96.0.4" {
					paths[i].want = noAnswer
				}
			}
			walk(t, paths)
		})
	}
	t.Run("routes", func(t *testing.T) {
		c := newCluster(t, bridgeMode, map[string]any{"routes": []string{"10.96.0.0/12", "fd00:96::/112"}})
		walk(t, c.paths())
	})
	t.Run("several addresses", func(t *testing.T) {
		c := newCluster(t, bridgeMode, nil)
		p := c.podWith(c.node1, "several", bridgeMode, "10.10.20.60/24", "10.10.20.61/24", "fd00:20::60/64",
			"fd00:20::61/64")
		c.node1.mustAdd(t, p)
		serve(t, p.ns, "several")
		walk(t, []path{
			{"node to the first", c.node1.ns, "tcp", "10.10.20.60", 8080, "several sees 10.10.20.152"},
			{"node to the second", c.node1.ns, "tcp", "10.10.20.61", 8080, "several sees 10.10.20.152"},
			{"ext to the second", c.ext, "tcp", "10.10.20.61", 8080, "several sees 172.31.0.2"},
		})
		if got := ask(p.ns, "tcp", "10.96.0.1", 80); got != "p2 sees 10.10.20.60" {
			t.Errorf("to a service: got %q", got)
		}
	})
}

// A pod forwards for its node only: a neighbour on the LAN does not get to services through it. Over IPv4 the node's
// strict reverse-path filter would stop it too.
func TestPaths_through_a_pod(t *testing.T) {
	c := newCluster(t, bridgeMode, nil)
	in(t, c.lan, func() error {
		return edit(uplink, func(link netlink.Link) error {
			service := netip.MustParseAddr("fd00:96::5")
			return netlink.RouteAdd(&netlink.Route{
				LinkIndex: link.Attrs().Index, Dst: netipx.AddrIPNet(service), Gw: net.ParseIP("fd00:20::50"),
			})
		})()
	})
	if got := askFor(300*time.Millisecond, c.lan, "tcp", "fd00:96::5", 80); got != noAnswer {
		t.Errorf("got %q, want %q", got, noAnswer)
	}
}

// A11, B05: a pod with a veth and a host route on the node, as ptp makes them, and a pod of this plugin reach each
// other in both directions and through services, and see each other's own address.
func TestPaths_beside_a_routed_pod(t *testing.T) {
	c := newCluster(t, bridgeMode, nil)
	routed := newNamespace(t, rpFilter, "0")
	c.cable(c.node1.ns, routed, "routed0", "eth0")
	in(t, routed, func() error {
		if err := plugintest.Configure("eth0", "10.244.1.5/24", "fd00:244::5/64"); err != nil {
			return err
		}
		return addDefaults("eth0", "10.244.1.1", "fd00:244::1")
	})
	in(t, c.node1.ns, func() error {
		if err := plugintest.Configure("routed0", "10.244.1.1/32", "fd00:244::1/128"); err != nil {
			return err
		}
		return edit("routed0", func(link netlink.Link) error {
			for _, ip := range []string{"10.244.1.5", "fd00:244::5"} {
				if err := netlink.RouteAdd(hostRoute(netip.MustParseAddr(ip),
					"").netlink(link.Attrs().Index)); err != nil {
					return err
				}
			}
			return nil
		})()
	})
	proxy{services: map[string]string{"10.96.0.20": "10.244.1.5", "fd00:96::20": "fd00:244::5"}}.install(t, c.node1.ns)
	serve(t, routed, "routed")
	for _, p := range []path{
		{"to it", c.p1.ns, "tcp", "10.244.1.5", endpointPort, "routed sees 10.10.20.50"},
		{"to it, IPv6", c.p1.ns, "tcp", "fd00:244::5", endpointPort, "routed sees fd00:20::50"},
		{"to its service", c.p1.ns, "tcp", "10.96.0.20", 80, "routed sees 10.10.20.50"},
		{"to its service, IPv6", c.p1.ns, "tcp", "fd00:96::20", 80, "routed sees fd00:20::50"},
		{"from it", routed, "tcp", "10.10.20.50", endpointPort, "p1 sees 10.244.1.5"},
		{"from it, IPv6", routed, "tcp", "fd00:20::50", endpointPort, "p1 sees fd00:244::5"},
		{"from it to a service", routed, "tcp", "10.96.0.7", 80, "p1 sees 10.244.1.5"},
	} {
		if got := ask(p.from, p.network, p.to, p.port); got != p.want {
			t.Errorf("%s: got %q, want %q", p.name, got, p.want)
		}
	}
}

// The pods are not on the first NIC: code that uses "the node's address" gets the address of the first one.
func TestPaths_on_a_node_with_two_NICs(t *testing.T) {
	var c *cluster
	management := func(l *lab) {
		in(t, l.node1.ns, func() error { return addVeth("mgmt", "mgmt-peer") })
		in(t, l.node1.ns, func() error { return plugintest.Configure("mgmt", "192.168.121.10/24", "fd00:121::10/64") })
		in(t, l.node1.ns, func() error { return plugintest.Configure("mgmt-peer") })
	}
	c = newCluster(t, bridgeMode, nil, management)
	paths := c.paths()
	for i := range paths {
		// kube-proxy masquerades this one, on a link without an address
		if paths[i].port == 30081 {
			paths = append(paths[:i], paths[i+1:]...)
			break
		}
	}
	walk(t, append(paths, path{
		"pod to the node's other address", c.p1.ns, "tcp", "192.168.121.10", 8080, "node1 sees 10.10.20.50",
	}))
	if got := ask(c.lan, "tcp", "10.10.20.152", 30081); got != "p1 sees 192.168.121.10" {
		t.Errorf("node port, Cluster: got %q", got)
	}
}

func addVeth(name, peer string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer})
}
