// Command naive-route is BROKEN ON PURPOSE: a negative control on which `make test` runs scenarios. Never install it.
//
// It is the plugin `route` as people first write it, for the same conflist: a macvlan child of the master on the node
// and one host route per pod over it. It works on a node with one NIC as long as nothing goes wrong. Its faults, with
// the failure modes and requirements that they show (cnitest explain ID):
//
//   - DEL dereferences a nil previous result (K02, DEL-2), and fails when its route is gone (E05, DEL-4);
//   - only the first address gets a route, and only an IPv4 one (I08);
//   - the route has no preferred source (K04), the child no arp_filter and its pods no permanent neighbours (K01);
//   - the child accepts router advertisements (K05);
//   - two first ADDs race for the child (H01), and a stale route makes ADD fail (E08);
//   - CHECK is nil, so it succeeds whatever is missing (G04); GC and STATUS are nil, too;
//   - the child is never removed.
package main

import (
	"encoding/json"
	"errors"
	"net"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
)

type config struct {
	types.PluginConf
	Master string `json:"master"`
	Bridge string `json:"bridge"`
}

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del}, version.All, "naive-route, broken on purpose")
}

func parse(stdin []byte) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, err
	}
	return c, version.ParsePrevResult(&c.PluginConf)
}

func add(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	result, err := current.GetResult(c.PrevResult)
	if err != nil {
		return err
	}
	child, err := makeChild(c)
	if err != nil {
		return err
	}
	route := hostRoute(result)
	route.LinkIndex = child
	if err := netlink.RouteAdd(route); err != nil {
		return err
	}
	return types.PrintResult(result, c.CNIVersion)
}

func del(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	// Fault: there may be no previous result, and GetResult reads its version.
	result, err := current.GetResult(c.PrevResult)
	if err != nil {
		return err
	}
	return netlink.RouteDel(hostRoute(result))
}

// hostRoute has two faults: it only uses the first address, and only an IPv4 one.
func hostRoute(result *current.Result) *netlink.Route {
	pod := &net.IPNet{IP: result.IPs[0].Address.IP, Mask: net.CIDRMask(32, 32)}
	return &netlink.Route{Dst: pod, Scope: netlink.SCOPE_LINK}
}

// makeChild makes the child and returns its index. Fault: other calls run between the check and the creation.
func makeChild(c *config) (int, error) {
	master, err := netlink.LinkByName(c.Master)
	if err != nil {
		return 0, err
	}
	child, err := netlink.LinkByName(c.Bridge)
	if err == nil {
		return child.Attrs().Index, nil
	}
	if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return 0, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = c.Bridge, master.Attrs().Index
	if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		return 0, err
	}
	if child, err = netlink.LinkByName(c.Bridge); err != nil {
		return 0, err
	}
	return child.Attrs().Index, netlink.LinkSetUp(child)
}
