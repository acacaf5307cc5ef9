package service

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strings"
)

// family is the state of one IP version: the services that have a cluster IP of that version; there may be none.
type family struct {
	ipv6 bool
	// restricted means that only nodePortAddresses answer on node ports, even if this family has none of them.
	restricted        bool
	nodePortAddresses []netip.Addr
	ports             []port
}

// port is a Service in one family.
type port struct {
	name      string // as kube-proxy prints it
	protocol  string
	clusterIP netip.Addr
	port      uint16
	nodePort  uint16
	localOnly bool
	endpoints []Endpoint // of all nodes
	local     []Endpoint // of this node
}

// split returns the states of IPv4 and of IPv6.
func split(opts Options, services []Service) []family {
	families := []family{{}, {ipv6: true}}
	for i := range families {
		f := &families[i]
		f.restricted = len(opts.NodePortAddresses) > 0
		for _, a := range opts.NodePortAddresses {
			if a.Is6() == f.ipv6 {
				f.nodePortAddresses = append(f.nodePortAddresses, a)
			}
		}
		for _, s := range services {
			for _, a := range s.ClusterIPs {
				if a.Is6() == f.ipv6 {
					f.ports = append(f.ports, newPort(s, a))
				}
			}
		}
	}
	return families
}

func (f family) isEmpty() bool { return len(f.ports) == 0 }

func newPort(s Service, clusterIP netip.Addr) port {
	p := port{
		name: s.Name, protocol: s.Protocol, clusterIP: clusterIP, port: s.Port, nodePort: s.NodePort,
		localOnly: s.LocalOnly,
	}
	if !strings.Contains(p.name, "/") {
		p.name = "default/" + p.name
	}
	for _, e := range s.Endpoints {
		if e.Address.Is6() != clusterIP.Is6() {
			continue
		}
		p.endpoints = append(p.endpoints, e)
		if e.Local {
			p.local = append(p.local, e)
		}
	}
	return p
}

// external returns the endpoints that clients from outside reach through the node port.
func (p port) external() []Endpoint {
	if p.localOnly {
		return p.local
	}
	return p.endpoints
}

// needsLocal reports whether a node port uses only the local endpoints.
func (p port) needsLocal() bool {
	return p.nodePort != 0 && p.localOnly && len(p.local) > 0
}

// hash returns the first characters of the hash that kube-proxy puts into chain names, which must be short, or at least
// differ early.
func hash(text string, length int) string {
	sum := sha256.Sum256([]byte(text))
	return base32.StdEncoding.EncodeToString(sum[:])[:length]
}

func (e Endpoint) String() string {
	return netip.AddrPortFrom(e.Address, e.Port).String()
}
