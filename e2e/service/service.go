// Package service gives a network namespace the Services of a Kubernetes node: the rules that kube-proxy v1.36 would
// program there, with its names, marks and order, in one of three dataplanes. nftables uses only netlink and needs no
// program on the machine; iptables runs iptables-save and iptables-restore; ipvs uses only netlink, and needs a kernel
// with IPVS, root of the machine, and a network namespace in which nobody else uses IPVS.
//
// It is not a proxy: nothing runs between two calls of Apply, and nothing watches. It does not implement these features
// of kube-proxy: session affinity, load balancers and external IPs, internalTrafficPolicy and topology, the cluster
// CIDR (which kube-proxy does not have by default), terminating endpoints, and node ports on loopback addresses (so
// route_localnet does not change). It differs in these points:
//
//   - nftables drops forwarded packets of state invalid too; kube-proxy does so only with iptables. A plugin whose
//     replies take another path than the requests must fail with both.
//   - Node ports answer on all addresses of the node unless Options says otherwise, even with nftables, where
//     kube-proxy's default is the node's primary addresses.
//   - The rules of ipvs are nftables rules with the names of kube-proxy's iptables chains and ipsets. Its rules that
//     accept packets are left out, since they would overrule only other rules of the same table.
//   - With ipvs an endpoint that goes is gone at once, with its connections; kube-proxy lets those of TCP end. Node
//     ports answer on the addresses that the node has at the time of Apply. Strict ARP is the event strict-arp.
//
// The effect on traffic is tested by one table of tests, which also runs on rulesets recorded from a real kube-proxy
// (testdata/kube-proxy-*). The tests make all their namespaces themselves and need root; those of the iptables
// dataplane and of the recorded rulesets also need iptables and nft on PATH, those of ipvs a kernel with it (make
// test-vm), and are skipped without:
//
//	go test ./e2e/service
package service

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cnitest/cnitest/e2e/internal/sysctl"
)

// The dataplanes.
const (
	Nftables = "nftables"
	Iptables = "iptables"
	IPVS     = "ipvs"
)

// The transport protocols of a Service.
const (
	TCP = "tcp"
	UDP = "udp"
)

// masqueradeMark is the bit that selects packets for source translation: kube-proxy's --iptables-masquerade-bit, 14.
const masqueradeMark = 0x4000

// Service is one port of a Kubernetes Service as the proxy of a node sees it.
type Service struct {
	// Name is NAMESPACE/NAME:PORT, as kube-proxy prints it. NAMESPACE/ may be absent and means default; :PORT may be
	// absent. No two services have the same name and protocol.
	Name string `json:"name"`
	// Protocol is TCP or UDP.
	Protocol string `json:"protocol"`
	// ClusterIPs contains one address for each family that the service has.
	ClusterIPs []netip.Addr `json:"clusterIPs"`
	// Port is the port of the cluster IPs.
	Port uint16 `json:"port"`
	// NodePort is the port on the addresses of the node; 0 means none.
	NodePort uint16 `json:"nodePort,omitempty"`
	// LocalOnly is externalTrafficPolicy Local: the node port leads only to endpoints on this node, which see the
	// client's own address. If false, every endpoint is used, and sees the node's address.
	LocalOnly bool `json:"localOnly,omitempty"`
	// Endpoints receive the traffic, chosen at random (IPVS: in turn). An endpoint whose family has no cluster IP
	// receives none.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// Endpoint is an endpoint of a Service.
type Endpoint struct {
	// Address is the pod's address, or that of a node for a pod on the host network.
	Address netip.Addr `json:"address"`
	// Port is the port at Address.
	Port uint16 `json:"port"`
	// Local means that the endpoint is on this node.
	Local bool `json:"local,omitempty"`
}

// Options say how services are programmed.
type Options struct {
	// Dataplane is Nftables, Iptables or IPVS; empty means Nftables.
	Dataplane string `json:"dataplane,omitempty"`
	// NodePortAddresses are the addresses that answer on node ports. Empty means every address of the node except
	// loopback addresses, including those that it gets later (IPVS: with the next Apply).
	NodePortAddresses []netip.Addr `json:"nodePortAddresses,omitempty"`
}

// dataplane programs the whole state of the calling thread's network namespace: it replaces the rules of each family,
// and removes those of an empty one.
type dataplane func(ctx context.Context, families []family) error

// Apply sets the services of the network namespace of the calling thread, which the caller has locked if the namespace
// is not that of the process. It replaces everything that an earlier Apply with the same dataplane made, in one
// transaction for each family (iptables: for each table of each family; ipvs: virtual servers one after the other).
// Services that stay are not interrupted. Applying nil removes everything, as Remove does.
//
// It deletes UDP conntrack entries that do not lead to an endpoint of their service, and makes tracking of TCP windows
// strict (it sets nf_conntrack_tcp_be_liberal to 0, which kube-proxy's invalid rule assumes). It never changes tables,
// chains and rules of others. Apply may be repeated, but not run concurrently in one namespace.
//
// The error is a *MissingProgramError if the dataplane needs a program that the machine lacks.
func Apply(ctx context.Context, opts Options, services []Service) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	program, err := opts.dataplane()
	if err == nil {
		err = validate(opts, services)
	}
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	families := split(opts, services)
	if err := program(ctx, families); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	if len(services) == 0 {
		return nil
	}
	if err := sysctl.Set(sysctl.Root+"/netfilter/nf_conntrack_tcp_be_liberal", "0"); err != nil {
		return fmt.Errorf("services: track TCP windows: %w", err)
	}
	if err := forgetStale(families); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	return nil
}

// Remove removes everything that Apply made with the same dataplane. It succeeds if there is nothing to remove.
// Established connections continue, as they do when kube-proxy's rules are removed: conntrack entries stay. Those of
// virtual servers end.
func Remove(ctx context.Context, opts Options) error {
	return Apply(ctx, opts, nil)
}

func (o Options) dataplane() (dataplane, error) {
	switch o.Dataplane {
	case Nftables, "":
		return programNftables, nil
	case Iptables:
		return programIptables, nil
	case IPVS:
		return programIPVS, nil
	}
	return nil, fmt.Errorf("dataplane: want %q, %q or %q, got %q", Nftables, Iptables, IPVS, o.Dataplane)
}

// validate returns all mistakes.
func validate(opts Options, services []Service) error {
	var errs []error
	for _, a := range opts.NodePortAddresses {
		if !a.IsValid() || a.IsLoopback() {
			errs = append(errs, fmt.Errorf("node port address: want an address that is not loopback, got %q", a))
		}
	}
	taken := map[string]string{}
	for _, s := range services {
		for _, err := range s.validate() {
			errs = append(errs, fmt.Errorf("%q: %w", s.Name, err))
		}
		for _, key := range s.keys() {
			if other, found := taken[key]; found {
				errs = append(errs, fmt.Errorf("%q: %s is taken by %q", s.Name, key, other))
			}
			taken[key] = s.Name
		}
	}
	return errors.Join(errs...)
}

// validate returns all mistakes that do not depend on other services.
func (s Service) validate() (errs []error) {
	// The name becomes part of chain names and of a line that iptables-restore reads.
	bad := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-./:", r) }
	if s.Name == "" || strings.ContainsFunc(s.Name, bad) {
		errs = append(errs,
			errors.New("name: want NAMESPACE/NAME:PORT of lower-case letters, digits, dots and hyphens"))
	}
	if s.Protocol != TCP && s.Protocol != UDP {
		errs = append(errs, fmt.Errorf("protocol: want %q or %q, got %q", TCP, UDP, s.Protocol))
	}
	if s.Port == 0 {
		errs = append(errs, errors.New("port: want 1 to 65535, got 0"))
	}
	if len(s.ClusterIPs) == 0 {
		errs = append(errs, errors.New("cluster IPs: want one for each family, got none"))
	}
	families := map[bool]netip.Addr{}
	for _, a := range s.ClusterIPs {
		if !isUnicast(a) {
			errs = append(errs, fmt.Errorf("cluster IP: want a unicast address, got %q", a))
			continue
		}
		if other, found := families[a.Is6()]; found {
			errs = append(errs, fmt.Errorf("cluster IPs: want one for each family, got %s and %s", other, a))
		}
		families[a.Is6()] = a
	}
	for _, e := range s.Endpoints {
		if !isUnicast(e.Address) || e.Port == 0 {
			errs = append(errs, fmt.Errorf("endpoint: want a unicast address and a port, got %q and %d", e.Address,
				e.Port))
		}
	}
	return errs
}

// isUnicast also returns false for IPv4-mapped addresses: the same address in two forms would be two endpoints.
func isUnicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.Is4In6() && a.Zone() == ""
}

// keys returns what no other service may have.
func (s Service) keys() []string {
	keys := []string{fmt.Sprintf("name %s, protocol %s", s.Name, s.Protocol)}
	for _, a := range s.ClusterIPs {
		keys = append(keys, fmt.Sprintf("%s port %d of %s", s.Protocol, s.Port, a))
		if s.NodePort != 0 {
			keys = append(keys, fmt.Sprintf("%s node port %d of %s", s.Protocol, s.NodePort, ipVersion(a.Is6())))
		}
	}
	return keys
}

func ipVersion(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}
