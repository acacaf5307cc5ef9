package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/offer"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
)

// probePort is the one on which servers answer the probe that tries a path.
const probePort = 9201

// site is a place where traffic is measured: two nodes of a chain with their pods, or the bare pair.
type site struct {
	name    string
	cluster cluster.Cluster // nil for the bare pair, which is on a node of another site
	spots   map[string]spot
	paths   []path // those that carry traffic
}

// spot is an end of a path; a service has no agent.
type spot struct {
	agent   *agent.Client
	netns   string
	address netip.Addr
}

func (s *site) has(p path) bool { return slices.Contains(s.paths, p) }

func (s *site) close() {
	if s.cluster != nil {
		_ = s.cluster.Close()
	}
}

// openSites starts the cluster of each chain that is measured, attaches pods and starts servers. The first site is the
// bare pair, the second that of the chain under test. What was started is returned with an error, too.
func (b *bench) openSites(ctx context.Context) (sites []*site, err error) {
	bare := &site{name: bareName, spots: map[string]spot{}}
	sites = append(sites, bare)
	for _, c := range b.present() {
		if c.Role == benchmark.Nothing || c.Role == benchmark.Beside && c.Plugins[0].Type == "macvlan" {
			// Without a path from its node to its pods it is no measure for others.
			continue
		}
		s, err := b.openSite(ctx, c)
		if s != nil {
			sites = append(sites, s)
		}
		if err != nil {
			return sites, err
		}
	}
	tested := sites[1]
	if err := bare.openBare(ctx, tested.spots["node"].agent); err != nil {
		return sites, err
	}
	for _, s := range sites[1:] {
		if err := b.try(ctx, s); err != nil {
			return sites, err
		}
	}
	return sites, nil
}

// openSite starts two nodes of a chain.
func (b *bench) openSite(ctx context.Context, c *chain) (*site, error) {
	req := c.clusterRequest(b.options)
	req.Nodes = nil
	for _, name := range []string{"a", "b"} {
		node := b.options.Node
		node.Name = name
		req.Nodes = append(req.Nodes, node)
	}
	started, err := b.options.Backend.Start(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	s := &site{name: c.Name, cluster: started, spots: map[string]spot{}}
	a, far := started.Nodes()[0], started.Nodes()[1]
	address, err := addressOf(a.Interfaces[scenario.UplinkInterface])
	if err != nil {
		return s, err
	}
	s.spots["node"] = spot{agent: a.Agent, address: address}
	for _, pod := range []struct {
		name string
		node *cluster.Node
	}{{"pod", a}, {"other", a}, {"far", far}} {
		if s.spots[pod.name], err = c.on(pod.node).attach(ctx, pod.name); err != nil {
			var failed *CallError
			if c.Role == benchmark.Beside && errors.As(err, &failed) {
				b.miss("traffic of "+c.Name, failed.Error())
				return s, nil
			}
			return s, err
		}
	}
	for _, end := range s.spots {
		if err := end.serve(ctx); err != nil {
			return s, err
		}
	}
	if b.options.Services {
		return s, s.serveService(ctx)
	}
	return s, nil
}

// on returns the chain on another node.
func (c *chain) on(node *cluster.Node) *chain {
	return &chain{
		Chain: c.Chain, file: c.file, node: node, conflist: node.Conflist, binDirs: node.BinDirs, verbs: c.verbs,
		desk: offer.NewDesk(),
	}
}

// attach attaches a pod that stays.
func (c *chain) attach(ctx context.Context, name string) (s spot, err error) {
	s.agent = c.node.Agent
	if s.netns, err = s.agent.CreateNamespace(ctx, name); err != nil {
		return s, err
	}
	pod := c.pod(s.netns)
	pod.ContainerID = "traffic-" + name
	done, err := c.round(ctx, []agent.RoundPod{pod}, 1, cni.Add)
	if err != nil {
		return s, err
	}
	addresses, err := given(done[0].Results[0])
	if err == nil {
		s.address, err = addressOf(addresses)
	}
	if err != nil {
		return s, &CallError{c.Name, fmt.Errorf("traffic to pod/%s: %w", name, err)}
	}
	return s, nil
}

// given returns the addresses of a result.
func given(result json.RawMessage) (addresses []netip.Addr, err error) {
	r, err := cni.ParseResult(result)
	if err != nil {
		return nil, err
	}
	for _, ip := range r.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			addresses = append(addresses, a.Unmap())
		}
	}
	return addresses, nil
}

// serve starts the servers of a spot.
func (s spot) serve(ctx context.Context) error {
	if err := s.agent.ServeLoad(ctx, agent.ServeLoadArgs{Netns: s.netns, Port: loadPort}); err != nil {
		return err
	}
	return s.agent.Listen(ctx, s.netns, probe.ListenSpec{Protocol: probe.TCP, Port: probePort})
}

// serveService makes a service whose endpoint is the other pod of the first node.
func (s *site) serveService(ctx context.Context) error {
	// As of a cluster that kubeadm makes.
	address, to := netip.MustParseAddr("10.96.0.10"), s.spots["other"].address
	if to.Is6() {
		address = netip.MustParseAddr("fd00:10:96::a")
	}
	var services []service.Service
	for _, port := range []struct {
		protocol string
		number   uint16
	}{{service.TCP, loadPort}, {service.UDP, loadPort}, {service.TCP, probePort}} {
		services = append(services, service.Service{
			Name:     fmt.Sprintf("bench/other:%s-%d", port.protocol, port.number),
			Protocol: port.protocol, ClusterIPs: []netip.Addr{address}, Port: port.number,
			Endpoints: []service.Endpoint{{Address: to, Port: port.number, Local: true}},
		})
	}
	s.spots["service"] = spot{address: address}
	return s.spots["node"].agent.Services(ctx, agent.ServicesArgs{Services: services})
}

// openBare makes the bare pair on a node.
func (s *site) openBare(ctx context.Context, node *agent.Client) error {
	ends := []struct{ name, address string }{{"bare-left", "192.0.2.1/30"}, {"bare-right", "192.0.2.2/30"}}
	for _, end := range ends {
		path, err := node.CreateNamespace(ctx, end.name)
		if err != nil {
			return err
		}
		s.spots[end.name] = spot{node, path, netip.MustParsePrefix(end.address).Addr()}
	}
	left, right := s.spots[ends[0].name], s.spots[ends[1].name]
	if err := node.AddLink(ctx, agent.AddLinkArgs{
		Netns: left.netns, Name: "eth0", PeerNetns: right.netns, PeerName: "eth0",
	}); err != nil {
		return err
	}
	for _, end := range ends {
		if err := node.AddAddress(ctx, agent.AddressArgs{
			Netns: s.spots[end.name].netns, Interface: "eth0", Address: netip.MustParsePrefix(end.address),
		}); err != nil {
			return err
		}
	}
	s.paths = []path{{"between two namespaces", ends[0].name, ends[1].name}}
	if err := right.serve(ctx); err != nil {
		return err
	}
	// Until the kernel has heard of the carrier, it drops what is sent.
	result, err := node.Probe(ctx, left.netns, probe.Spec{
		Protocol: probe.TCP, To: right.address.String(), Port: probePort,
	})
	if err == nil && !result.OK {
		err = fmt.Errorf("bare veth pair: %s", result.Error)
	}
	return err
}

// clusterRequest returns the request for clusters of the chain, without nodes.
func (c *chain) clusterRequest(o Options) cluster.Request {
	if c.Role == benchmark.Tested {
		req := o.Request
		req.Alone = true
		return req
	}
	return cluster.Request{Conflist: c.file, BinDir: o.Request.BinDir, Alone: true}
}
