// Command toyvlan is a small underlay plugin: it gives a pod a macvlan on the node's uplink, with addresses from an
// IPAM plugin.
//
// It is an example of a plugin in another repository that is tested with cnitest. It is not for production: it
// implements only CNI 0.4.0 and 1.0.0, which have neither GC nor STATUS, and a node does not reach its own pods, as
// with every plain macvlan.
//
// Run its tests: make test
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ip"
	"github.com/containernetworking/plugins/pkg/ipam"
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespaces belong to threads, so the main goroutine stays on its thread.
func init() { runtime.LockOSThread() }

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Check: check, Del: del}, version.PluginSupports("0.4.0", "1.0.0"),
		"toyvlan, an example")
}

// config is the plugin's part of a conflist.
type config struct {
	types.NetConf
	// Master is the node's interface on the underlay. Required.
	Master string `json:"master"`
	// Args are the runtime's requests for this pod.
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
		} `json:"cni"`
	} `json:"args"`
}

func parse(stdin []byte) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "configuration", err.Error())
	}
	if err := version.ParsePrevResult(&c.NetConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "prevResult", err.Error())
	}
	if c.Master == "" || c.IPAM.Type == "" {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, `want "master" and "ipam"`, "")
	}
	return c, nil
}

// preferArgs removes the address from CNI_ARGS if args asks for one: args takes precedence (CONVENTIONS.md,
// "CNI_ARGS"), and host-local would allocate both.
func (c *config) preferArgs() error {
	if len(c.Args.CNI.IPs) == 0 {
		return nil
	}
	pairs := slices.DeleteFunc(strings.Split(os.Getenv("CNI_ARGS"), ";"), func(pair string) bool {
		return strings.HasPrefix(pair, "IP=")
	})
	return os.Setenv("CNI_ARGS", strings.Join(pairs, ";"))
}

func add(args *skel.CmdArgs) (err error) {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	master, err := netlinksafe.LinkByName(c.Master)
	if err != nil {
		return fmt.Errorf("master %q: %w", c.Master, err)
	}
	pod, err := podNamespace(args.Netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, invoke.DelegateDel(context.Background(), c.IPAM.Type, args.StdinData, nil))
		}
	}()
	if err := c.preferArgs(); err != nil {
		return err
	}
	given, err := ipam.ExecAdd(c.IPAM.Type, args.StdinData)
	if err != nil {
		return err
	}
	result, err := current.NewResultFromResult(given)
	if err != nil {
		return err
	}
	if len(result.IPs) == 0 {
		return fmt.Errorf("%s: want an address, got none", c.IPAM.Type)
	}
	for _, address := range result.IPs {
		address.Interface = current.Int(0)
	}
	if !c.DNS.IsEmpty() {
		result.DNS = c.DNS // the administrator's own, in place of the IPAM plugin's
	}
	if err := attach(pod, master, args.IfName, result); err != nil {
		return err
	}
	return types.PrintResult(result, c.CNIVersion)
}

// podNamespace opens the namespace at a path, which must not be the node's own.
func podNamespace(path string) (ns.NetNS, error) {
	var own, pods unix.Stat_t
	if err := errors.Join(unix.Stat("/proc/thread-self/ns/net", &own), unix.Stat(path, &pods)); err != nil {
		return nil, fmt.Errorf("namespace %q: %w", path, err)
	}
	if own.Dev == pods.Dev && own.Ino == pods.Ino {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_NETNS",
			path+" is the node's own namespace")
	}
	return ns.GetNS(path)
}

// attach creates the interface directly in the pod and with its final name, so that DEL finds it whenever the plugin is
// killed.
func attach(pod ns.NetNS, master netlink.Link, name string, result *current.Result) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.MTU = name, master.Attrs().Index, master.Attrs().MTU
	attrs.Namespace = netlink.NsFd(int(pod.Fd()))
	if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		return fmt.Errorf("interface %q: %w", name, err)
	}
	return pod.Do(func(ns.NetNS) (err error) {
		defer func() {
			if err != nil {
				err = errors.Join(err, ip.DelLinkByName(name))
			}
		}()
		// Hosts that still know a former owner of the address learn of the new one as soon as the interface is up.
		if _, err := sysctl.Sysctl("net/ipv4/conf/"+name+"/arp_notify", "1"); err != nil {
			return err
		}
		// A router's advertisement would give the pod addresses and a default route that no result lists. Not every
		// kernel has IPv6.
		_, err = sysctl.Sysctl("net/ipv6/conf/"+name+"/accept_ra", "0")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		link, err := netlinksafe.LinkByName(name)
		if err != nil {
			return err
		}
		result.Interfaces = []*current.Interface{
			{Name: name, Mac: link.Attrs().HardwareAddr.String(), Sandbox: pod.Path()},
		}
		return ipam.ConfigureIface(name, result)
	})
}

func check(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	if c.PrevResult == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "prevResult", "want the result of ADD")
	}
	if err := ipam.ExecCheck(c.IPAM.Type, args.StdinData); err != nil {
		return err
	}
	result, err := current.NewResultFromResult(c.PrevResult)
	if err != nil {
		return err
	}
	master, err := netlinksafe.LinkByName(c.Master)
	if err != nil {
		return fmt.Errorf("master %q: %w", c.Master, err)
	}
	return ns.WithNetNSPath(args.Netns, func(ns.NetNS) error { return compare(args, master, result) })
}

// compare checks the pod's interface against the result of ADD.
func compare(args *skel.CmdArgs, master netlink.Link, result *current.Result) error {
	link, err := netlinksafe.LinkByName(args.IfName)
	if err != nil {
		return fmt.Errorf("interface %q: %w", args.IfName, err)
	}
	attrs := link.Attrs()
	switch vlan, ok := link.(*netlink.Macvlan); {
	case !ok || attrs.ParentIndex != master.Attrs().Index || vlan.Mode != netlink.MACVLAN_MODE_BRIDGE:
		return fmt.Errorf("interface %q: want a macvlan on %q in bridge mode", args.IfName, master.Attrs().Name)
	case attrs.Flags&unix.IFF_UP == 0:
		return fmt.Errorf("interface %q: want it up", args.IfName)
	}
	var own []*current.IPConfig
	found := false
	for i, iface := range result.Interfaces {
		if iface.Name != args.IfName || iface.Sandbox != args.Netns {
			continue
		}
		found = true
		if iface.Mac != attrs.HardwareAddr.String() {
			return fmt.Errorf("interface %q: want the address %s, got %s", args.IfName, iface.Mac, attrs.HardwareAddr)
		}
		for _, address := range result.IPs {
			if address.Interface != nil && *address.Interface == i {
				own = append(own, address)
			}
		}
	}
	if !found {
		return fmt.Errorf("interface %q: prevResult does not have it", args.IfName)
	}
	return errors.Join(ip.ValidateExpectedInterfaceIPs(args.IfName, own), ip.ValidateExpectedRoute(result.Routes))
}

// del removes the interface before it releases the address, so that the address never has two owners.
func del(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	if err := detach(args); err != nil {
		return err
	}
	return invoke.DelegateDel(context.Background(), c.IPAM.Type, args.StdinData, nil)
}

func detach(args *skel.CmdArgs) error {
	if args.Netns == "" {
		return nil
	}
	err := ns.WithNetNSPath(args.Netns, func(ns.NetNS) error { return ip.DelLinkByName(args.IfName) })
	var gone ns.NSPathNotExistErr
	var other ns.NSPathNotNSErr
	if errors.Is(err, ip.ErrLinkNotFound) || errors.As(err, &gone) || errors.As(err, &other) ||
		errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
