// Package offer is what a runtime brings for pods beside their namespace: addresses where the IPAM plugin waits for
// some, and values for the capabilities that a conflist declares.
//
// Run its tests: go test ./e2e/internal/offer
package offer

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/cnitest/cnitest/e2e/conflist"
)

// Desk gives out a cluster's addresses that are a runtime's to bring. Its methods may be called concurrently.
type Desk struct {
	mu sync.Mutex
	// queues are the addresses of each node that nobody has, the one that was given back last at the end.
	queues map[string][][]netip.Prefix
	holds  map[holder][]netip.Prefix
}

type holder struct{ node, id, ifName string }

// NewDesk returns a desk at which nobody has been.
func NewDesk() *Desk {
	return &Desk{queues: map[string][][]netip.Prefix{}, holds: map[holder][]netip.Prefix{}}
}

// Addresses returns those of an attachment, one of each family, the same until Return; none where all of the node's are
// given out.
func (d *Desk) Addresses(node string, all [][]netip.Prefix, id, ifName string) []netip.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queues[node] == nil {
		d.queues[node] = slices.Clone(all)
	}
	h := holder{node, id, ifName}
	if d.holds[h] == nil && len(d.queues[node]) > 0 {
		d.holds[h], d.queues[node] = d.queues[node][0], d.queues[node][1:]
	}
	return d.holds[h]
}

// Return takes the addresses of an attachment back.
func (d *Desk) Return(node, id, ifName string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := holder{node, id, ifName}
	if had := d.holds[h]; had != nil {
		d.queues[node] = append(d.queues[node], had)
		delete(d.holds, h)
	}
}

// Offer is what a runtime passes for one attachment.
type Offer struct {
	// Capabilities are values by capability (CONVENTIONS.md), Args pairs of CNI_ARGS.
	Capabilities map[string]any
	Args         [][2]string
}

// Bring passes addresses in the way in which the file's IPAM plugin waits for them.
func (o *Offer) Bring(way conflist.Way, addresses []netip.Prefix) {
	if len(addresses) == 0 {
		return
	}
	var list []string
	for _, a := range addresses {
		list = append(list, a.String())
	}
	switch way {
	case conflist.ByCapability:
		o.set("ips", list)
	case conflist.ByArgs:
		o.Args = append(o.Args, [2]string{"IP", strings.Join(list, ",")})
	}
}

func (o *Offer) set(capability string, value any) {
	if o.Capabilities == nil {
		o.Capabilities = map[string]any{}
	}
	o.Capabilities[capability] = value
}

// The values that a pod asks for by capabilities. Rates are in bits per second, bursts in bits, far above what a probe
// sends.
const (
	askedRate  = 1_000_000_000
	askedBurst = 100_000_000
	// AskedServer and AskedDomain are of the capability dns, AskedPort is the port of the node and of the pod of
	// portMappings.
	AskedServer = "192.0.2.53"
	AskedDomain = "asked.example"
	AskedPort   = 8080
)

// Known are those of the capabilities for which Ask has a value.
func Known(capabilities []string) []string {
	return slices.DeleteFunc(slices.Clone(capabilities), func(name string) bool {
		return !slices.Contains([]string{"mac", "bandwidth", "portMappings", "dns", "infinibandGUID"}, name)
	})
}

// Ask adds a value for each capability of the list that this package knows, for an attachment that its id tells from
// others.
func (o *Offer) Ask(capabilities []string, id, ifName string) {
	sum := sha256.Sum256([]byte(id + "/" + ifName))
	for _, name := range capabilities {
		switch name {
		case "mac":
			o.set(name, net.HardwareAddr{0x02, 0x63, sum[0], sum[1], sum[2], sum[3]}.String())
		case "bandwidth":
			o.set(name, map[string]any{
				"ingressRate": askedRate, "ingressBurst": askedBurst, "egressRate": askedRate,
				"egressBurst": askedBurst,
			})
		case "portMappings":
			o.set(name, []map[string]any{{"hostPort": AskedPort, "containerPort": AskedPort, "protocol": "tcp"}})
		case "dns":
			o.set(name, map[string]any{"servers": []string{AskedServer}, "searches": []string{AskedDomain}})
		case "infinibandGUID":
			o.set(name, fmt.Sprintf("c2:63:%02x:%02x:00:%02x:%02x:01", sum[0], sum[1], sum[2], sum[3]))
		}
	}
}
