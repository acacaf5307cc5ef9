// Package kubeproxy runs a real kube-proxy on a node, in its mode nftables, and gives it Services by an API that has
// nothing else. Package service writes the same rules without it.
//
// Run its tests: sudo go test ./e2e/lab/kubeproxy
package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/e2e/lab/debian"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/service"
)

// Dataplane is the name of this proxy among the dataplanes of package service.
const Dataplane = "kube-proxy"

// Program is the name of the program, as its own build gives it.
const Program = "kube-proxy"

// nodeName is the name of this node, and of no other one, to the proxy.
const nodeName = "node"

// Proxy is a kube-proxy that runs on the node.
type Proxy struct {
	api    *api
	server *http.Server
	root   *debian.Root
}

// Start starts kube-proxy in the network namespace of the calling thread, from a directory of programs. It needs nft,
// which is among those of the root directory (debian.Dir).
func Start(programs, root string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{api: newAPI()}
	p.server = &http.Server{Handler: p.api, ReadHeaderTimeout: time.Minute}
	go func() { _ = p.server.Serve(listener) }() // until Close
	if err := p.start(programs, root, listener.Addr().String()); err != nil {
		return nil, errors.Join(fmt.Errorf("kube-proxy: %w", err), p.Close())
	}
	return p, nil
}

func (p *Proxy) start(programs, root, server string) error {
	addresses, err := nodeAddresses()
	if err != nil {
		return err
	}
	p.api.set(nodes, map[string]object{nodeName: {"status": object{"addresses": addresses}}})
	if p.root, err = debian.Open(root); err != nil {
		return err
	}
	kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "http://%s"}}]
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
users: [{name: lab, user: {}}]
current-context: lab
`, server)
	// Limits of 0 leave the node's settings of connection tracking as they are; all addresses have node ports, as with
	// the other dataplanes.
	const config = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: ` + nodeName + `
clientConnection: {kubeconfig: /etc/kubeconfig, contentType: application/json, acceptContentTypes: application/json}
nftables: {minSyncPeriod: 10ms, syncPeriod: 1h}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nodePortAddresses: [0.0.0.0/0, "::/0"]
`
	for _, step := range []func() error{
		func() error { return p.root.Write("/etc/kubeconfig", kubeconfig) },
		func() error { return p.root.Write("/etc/kube-proxy.yaml", config) },
		func() error { return p.root.Show(programs, "/srv") },
		func() error { return p.root.Start("/srv/"+Program, "--config=/etc/kube-proxy.yaml") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// nodeAddresses returns the node's own addresses as its Node has them.
func nodeAddresses() ([]object, error) {
	links, err := netlinksafe.LinkList()
	if err != nil {
		return nil, err
	}
	var all []object
	for _, l := range links {
		list, err := netlinksafe.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			if a.IP.IsGlobalUnicast() {
				all = append(all, object{"type": "InternalIP", "address": a.IP.String()})
			}
		}
	}
	return all, nil
}

// Apply sets the services and returns when the proxy has programmed them and deleted what it does not use any more.
func (p *Proxy) Apply(ctx context.Context, wanted []service.Service) error {
	last := canary(wanted)
	sweep := last // without endpoints it has no chains of its own
	sweep.Name, sweep.Endpoints = "sweep:sweep", nil
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, step := range []struct {
		with []service.Service
		done func() bool
	}{
		{[]service.Service{last}, func() bool { return has(conn, "service-ips", last.ClusterIPs) }},
		{nil, func() bool { return lacks(conn, "service-ips", last.ClusterIPs) }},
		// The proxy deletes chains when it next has something to do, and not before a second has passed.
		{[]service.Service{sweep}, func() bool { return has(conn, "no-endpoint-services", last.ClusterIPs) }},
		{nil, func() bool { return lacks(conn, "no-endpoint-services", last.ClusterIPs) && !remains(conn) }},
	} {
		all := slices.Concat(wanted, step.with)
		if len(step.with) > 0 && len(step.with[0].Endpoints) == 0 {
			time.Sleep(staleTime)
		}
		p.api.set(endpoints, endpointSlices(all))
		p.api.set(services, serviceObjects(all))
		if err := await(ctx, step.done); err != nil {
			return fmt.Errorf("kube-proxy: %w; it said: %s", err, &p.root.Log)
		}
	}
	return nil
}

const (
	// limit is how long the proxy may take to program services.
	limit = 20 * time.Second
	// staleTime is how long it keeps a chain that it does not use any more.
	staleTime = 1100 * time.Millisecond
)

// canary is the service that comes after all others: when the proxy has programmed it, or forgotten it, then also them.
func canary(others []service.Service) service.Service {
	c := service.Service{
		Name: "canary:canary", Protocol: service.UDP, Port: 9,
		Endpoints: []service.Endpoint{{Address: netip.MustParseAddr("192.0.2.9"), Port: 9}},
	}
	c.ClusterIPs = []netip.Addr{netip.MustParseAddr("192.0.2.10")}
	isIPv6 := func(s service.Service) bool { return slices.ContainsFunc(s.ClusterIPs, netip.Addr.Is6) }
	if slices.ContainsFunc(others, isIPv6) {
		c.ClusterIPs = append(c.ClusterIPs, netip.MustParseAddr("2001:db8::10"))
		c.Endpoints = append(c.Endpoints, service.Endpoint{Address: netip.MustParseAddr("2001:db8::9"), Port: 9})
	}
	return c
}

// await waits until the proxy has done something.
func await(ctx context.Context, done func() bool) error {
	for interval := machinetime.Start(); interval.Given() < limit; time.Sleep(20 * time.Millisecond) {
		if done() || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("it has not programmed the services after %s", limit)
}

// has reports whether one of the proxy's maps has an element for each of the addresses; without its table it has none.
func has(conn *nftables.Conn, name string, addresses []netip.Addr) bool {
	return !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !hasOne(conn, name, a) })
}

// lacks reports whether the map has an element for none of the addresses.
func lacks(conn *nftables.Conn, name string, addresses []netip.Addr) bool {
	return !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return hasOne(conn, name, a) })
}

func hasOne(conn *nftables.Conn, name string, a netip.Addr) bool {
	family := nftables.TableFamilyIPv4
	if a.Is6() {
		family = nftables.TableFamilyIPv6
	}
	set, err := conn.GetSetByName(&nftables.Table{Name: "kube-proxy", Family: family}, name)
	if err != nil {
		return false
	}
	elements, err := conn.GetSetElements(set)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(elements, func(e nftables.SetElement) bool {
		return strings.HasPrefix(string(e.Key), string(a.AsSlice()))
	})
}

// remains reports whether there is a chain for the canary, which the proxy deletes a second after its last use, with
// all other chains that are not used any more.
func remains(conn *nftables.Conn) bool {
	chains, err := conn.ListChains()
	return err != nil || slices.ContainsFunc(chains, func(c *nftables.Chain) bool {
		return c.Table.Name == "kube-proxy" && strings.Contains(c.Name, "/canary-")
	})
}

// Close ends the proxy. Its rules stay, as when kube-proxy is stopped.
func (p *Proxy) Close() error {
	var errs []error
	if p.root != nil {
		errs = append(errs, p.root.Close())
	}
	return errors.Join(append(errs, p.server.Close())...)
}
