// Package offer provides what a runtime passes for a pod besides its namespace: addresses if the IPAM plugin expects
// them, and values for the capabilities that a conflist declares.
//
// Run its tests: go test ./e2e/internal/offer
package offer

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/cnitest/cnitest/e2e/conflist"
)

// Desk hands out the addresses of a cluster that the runtime must choose. Its methods may be called concurrently.
type Desk struct {
	mu sync.Mutex
	// queues has the free addresses of each node; the one that was returned last is at the end.
	queues map[string][][]netip.Prefix
	holds  map[holder][]netip.Prefix
	// Devices hands out the devices of nodes.
	Devices *Devices
}

type holder struct{ node, id, ifName string }

// NewDesk returns a desk that has handed out nothing.
func NewDesk() *Desk {
	return &Desk{
		queues: map[string][][]netip.Prefix{}, holds: map[holder][]netip.Prefix{}, Devices: NewDevices(),
	}
}

// Addresses returns the addresses of an attachment, one of each family, the same until Return; none if the node has no
// free ones.
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

// Return takes back the addresses and the device of an attachment.
func (d *Desk) Return(node, id, ifName string) {
	d.ReturnAddresses(node, id, ifName)
	d.Devices.Return(node, id, ifName)
}

// ReturnAddresses takes back the addresses of an attachment, which keeps its device.
func (d *Desk) ReturnAddresses(node, id, ifName string) {
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
	// Capabilities contains values by capability (CONVENTIONS.md), Args pairs for CNI_ARGS, IPs the addresses for
	// args.cni.ips of the plugin's configuration.
	Capabilities map[string]any
	Args         [][2]string
	IPs          []string
}

// Bring passes addresses in the way that the file's IPAM plugin expects.
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
	case conflist.ByConfig:
		o.IPs = list
	}
}

// ArgsOf returns the args of a plugin's configuration with the offer's IPs in args.cni.ips, and everything else as it
// was. It does not change the configuration.
func (o *Offer) ArgsOf(config map[string]any) map[string]any {
	args, _ := config["args"].(map[string]any)
	inner, _ := args["cni"].(map[string]any)
	args, inner = maps.Clone(args), maps.Clone(inner)
	if args == nil {
		args = map[string]any{}
	}
	if inner == nil {
		inner = map[string]any{}
	}
	inner["ips"], args["cni"] = o.IPs, inner
	return args
}

func (o *Offer) set(capability string, value any) {
	if o.Capabilities == nil {
		o.Capabilities = map[string]any{}
	}
	o.Capabilities[capability] = value
}

// These are the values that a pod asks for by capabilities. Rates are in bits per second, bursts in bits; both are far
// above what a probe sends.
const (
	askedRate  = 1_000_000_000
	askedBurst = 100_000_000
	// AskedServer and AskedDomain are for the capability dns. AskedPort is the port of the node and of the pod in
	// portMappings; the next one of the node, at all its IPv4 addresses, also leads there.
	AskedServer = "192.0.2.53"
	AskedDomain = "asked.example"
	AskedPort   = 8080
)

// AskDevice adds the device of the node that the pod gets, if the list has the capability deviceID.
func (o *Offer) AskDevice(capabilities []string, device string) {
	if slices.Contains(capabilities, "deviceID") {
		o.set("deviceID", device)
	}
}

// Known returns the capabilities for which Ask has a value.
func Known(capabilities []string) []string {
	return slices.DeleteFunc(slices.Clone(capabilities), func(name string) bool {
		return !slices.Contains([]string{"mac", "bandwidth", "portMappings", "dns", "infinibandGUID"}, name)
	})
}

// Ask adds a value for each capability in the list that this package knows. The id of the attachment makes its MAC and
// GUID unique.
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
			o.set(name, []map[string]any{
				{"hostPort": AskedPort, "containerPort": AskedPort, "protocol": "tcp"},
				{"hostPort": AskedPort + 1, "containerPort": AskedPort, "protocol": "tcp", "hostIP": "0.0.0.0"},
			})
		case "dns":
			o.set(name, map[string]any{"servers": []string{AskedServer}, "searches": []string{AskedDomain}})
		case "infinibandGUID":
			o.set(name, fmt.Sprintf("c2:63:%02x:%02x:00:%02x:%02x:01", sum[0], sum[1], sum[2], sum[3]))
		}
	}
}
