package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netlink"
)

// single returns the prefix of one address.
func single(ip net.IP) *net.IPNet {
	if v4 := ip.To4(); v4 != nil {
		return &net.IPNet{IP: v4, Mask: net.CIDRMask(32, 32)}
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(128, 128)}
}

func addRule(c *call) error {
	for _, ip := range c.result.IPs {
		rule := netlink.NewRule()
		rule.Src, rule.Table, rule.Priority = single(ip.Address.IP), 254, 1000
		rule.Family = netlink.FAMILY_V4
		if ip.Address.IP.To4() == nil {
			rule.Family = netlink.FAMILY_V6
		}
		if err := netlink.RuleAdd(rule); err != nil {
			return err
		}
	}
	return nil
}

func deleteLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	} else if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

func removeRoutes(c *call) error {
	if c.result == nil {
		return nil
	}
	for _, ip := range c.result.IPs {
		// The route may already be gone; that is not this fault.
		_ = netlink.RouteDel(&netlink.Route{Dst: single(ip.Address.IP), Scope: netlink.SCOPE_LINK})
	}
	return nil
}

// podName returns the name of the pod in Kubernetes.
func podName(c *call) string {
	_, rest, _ := strings.Cut(c.Args, "K8S_POD_NAME=")
	name, _, _ := strings.Cut(rest, ";")
	return name
}

// noteRoutes writes down the addresses of the pod under its name.
func noteRoutes(c *call) error {
	if err := os.MkdirAll(store, 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(c.result)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(store, podName(c)), text, 0o600)
}

// removeNotedRoutes removes the routes to the addresses that are written down under the name of the pod.
func removeNotedRoutes(c *call) error {
	file := filepath.Join(store, podName(c))
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	noted := *c
	if err := json.Unmarshal(text, &noted.result); err != nil {
		return err
	}
	return errors.Join(removeRoutes(&noted), os.Remove(file), os.Remove(store))
}

// removeOtherRoutes removes the node's routes over the shared device, except for those to the pod's own addresses.
func removeOtherRoutes(c *call) error {
	child, err := netlink.LinkByName(c.Child)
	if err != nil {
		return err
	}
	routes, err := netlinksafe.RouteList(child, netlink.FAMILY_V4)
	for _, r := range routes {
		own := slices.ContainsFunc(c.result.IPs, func(ip *current.IPConfig) bool {
			return r.Dst != nil && r.Dst.IP.Equal(ip.Address.IP)
		})
		if !own {
			err = errors.Join(err, netlink.RouteDel(&r))
		}
	}
	return err
}

func shortName(c *call) string { return "b" + c.ContainerID[:12] }

func makeBridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
}

func race(*call) error {
	const shared = "broken0"
	if _, err := netlink.LinkByName(shared); !errors.As(err, &netlink.LinkNotFoundError{}) {
		return err
	}
	time.Sleep(300 * time.Millisecond) // as long as a slow node takes between the two steps
	return makeBridge(shared)
}

func flap(c *call) error {
	link, err := netlink.LinkByName(c.Master)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond) // as long as a switch takes to notice
	return netlink.LinkSetUp(link)
}

func inPod(c *call, do func(netlink.Link) error) error {
	return ns.WithNetNSPath(c.Netns, func(ns.NetNS) error {
		link, err := netlink.LinkByName(c.IfName)
		if err != nil {
			return err
		}
		return do(link)
	})
}

func changeMAC(c *call) error {
	return inPod(c, func(link netlink.Link) error {
		for _, key := range []string{
			"net/ipv4/conf/" + c.IfName + "/arp_notify", "net/ipv6/conf/" + c.IfName + "/ndisc_notify",
		} {
			if _, err := sysctl.Sysctl(key, "0"); err != nil {
				return err
			}
		}
		mac := net.HardwareAddr{0x02, 0, 0, 0, 0, 0}
		if _, err := rand.Read(mac[1:]); err != nil {
			return err
		}
		// So that only the missing announcement is wrong.
		for _, i := range c.result.Interfaces {
			if i.Name == c.IfName {
				i.Mac = mac.String()
			}
		}
		return netlink.LinkSetHardwareAddr(link, mac)
	})
}

// moveAddress replaces each of the pod's addresses by the next one.
func moveAddress(c *call) error {
	return inPod(c, func(link netlink.Link) error {
		for _, ip := range c.result.IPs {
			old := ip.Address
			ip.Address.IP = append(net.IP{}, old.IP...)
			ip.Address.IP[len(old.IP)-1] ^= 0x80
			if err := errors.Join(netlink.AddrDel(link, &netlink.Addr{IPNet: &old}),
				netlink.AddrAdd(link, &netlink.Addr{IPNet: &ip.Address})); err != nil {
				return err
			}
		}
		return nil
	})
}

func pinFirstMAC(c *call) error {
	note := filepath.Join(store, c.ContainerID)
	if c.Delegate != "" {
		if err := write(c.ContainerID); err != nil {
			return err
		}
		return os.WriteFile(note, []byte(c.result.Interfaces[0].Mac), 0o644)
	}
	text, err := os.ReadFile(note)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(string(text))
	if err != nil {
		return err
	}
	child, err := netlink.LinkByName(c.Child)
	if err != nil {
		return err
	}
	for _, ip := range c.result.IPs {
		entry := &netlink.Neigh{
			LinkIndex: child.Attrs().Index, IP: ip.Address.IP, HardwareAddr: mac, State: netlink.NUD_PERMANENT,
		}
		if err := netlink.NeighSet(entry); err != nil {
			return err
		}
	}
	return nil
}

// lowerFirst sets the pod's first interface down when another one is added.
func lowerFirst(c *call) error {
	if c.IfName == "eth0" {
		return nil
	}
	return ns.WithNetNSPath(c.Netns, func(ns.NetNS) error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return nil // there is none
		}
		return netlink.LinkSetDown(link)
	})
}

// deleteVeths deletes the node's ends of all pods' devices.
func deleteVeths() error {
	links, err := netlinksafe.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		// The uplink is a veth too.
		if link.Type() == "veth" && strings.HasPrefix(link.Attrs().Name, "veth") {
			if err := netlink.LinkDel(link); err != nil {
				return err
			}
		}
	}
	return nil
}

// removePodDefault removes the pod's default routes.
func removePodDefault(c *call) error {
	return inPod(c, func(link netlink.Link) error {
		routes, err := netlinksafe.RouteList(link, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				if err := netlink.RouteDel(&r); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
