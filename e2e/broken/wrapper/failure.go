package main

import (
	"net"
	"os"
	"os/exec"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
)

// failures returns defects that cause failure modes.
func failures() map[string]defect {
	return map[string]defect{
		"stale-neighbour": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if err := c.pinWrongMAC(a); err != nil {
				return c.fail(108, "%v", err)
			}
			return a
		}),
		"moves-default-route": on("ADD", func(c *call, next plugin) answer {
			if c.env["CNI_IFNAME"] != "eth0" {
				_ = c.inPod(func() error {
					return netlink.RouteDel(&netlink.Route{
						Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
					})
				})
			}
			return next(c)
		}),
		// No defect: it checks whether another host answers for the address, and then releases it.
		"finds-duplicates": on("ADD", func(c *call, next plugin) answer {
			return c.findDuplicate(next(c), next, true)
		}),
		"overlooks-duplicates": on("ADD", func(c *call, next plugin) answer {
			return c.overlookDuplicates(next)
		}),
		"keeps-duplicates": on("ADD", func(c *call, next plugin) answer {
			return c.findDuplicate(next(c), next, false)
		}),
		"knows-no-dots": on("ADD", func(c *call, next plugin) answer {
			if strings.Contains(c.env["CNI_IFNAME"], ".") {
				return c.fail(100, "open /proc/sys/net/ipv4/conf/%s: no such file or directory",
					strings.ReplaceAll(c.env["CNI_IFNAME"], ".", "/"))
			}
			return next(c)
		}),
		"keeps-no-address": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if a.status == 0 {
				_ = c.setInPod("ipv6", "keep_addr_on_down", "0")
			}
			return a
		}),
		"leaves-down": on("ADD", func(c *call, next plugin) answer {
			return c.alsoInPod(next(c), netlink.LinkSetDown)
		}),
		"shortens-queue": on("ADD", func(c *call, next plugin) answer {
			return c.alsoInPod(next(c), func(link netlink.Link) error { return netlink.LinkSetTxQLen(link, 0) })
		}),
		"keeps-mtu": on("ADD", func(c *call, next plugin) answer {
			return c.alsoInPod(next(c), func(link netlink.Link) error { return netlink.LinkSetMTU(link, 1400) })
		}),
		"del-wants-uplink": on("DEL", func(c *call, next plugin) answer {
			if _, err := netlink.LinkByName("eno1"); err != nil {
				return c.fail(100, "eno1: %v", err)
			}
			return next(c)
		}),
		"remembers-failure": on("ADD", func(c *call, next plugin) answer {
			const mark = "/run/cnitest-failed"
			if _, err := os.Stat(mark); err == nil {
				return c.fail(100, "an earlier ADD failed")
			}
			a := next(c)
			if a.status != 0 && strings.Contains(a.stdout, "says the stub") {
				if err := os.WriteFile(mark, nil, 0o600); err != nil {
					return c.fail(100, "%v", err)
				}
			}
			return a
		}),
		"litters-when-busy": littering(func(_ *call, msg string) bool { return strings.Contains(msg, "busy") }),
		"litters-on-mac": littering(func(c *call, _ string) bool {
			options, _ := c.config["runtimeConfig"].(map[string]any)
			return options["mac"] != nil
		}),
		"litters-without-master": littering(func(_ *call, msg string) bool {
			return strings.Contains(msg, "master")
		}),
		"litters-in-own-namespace": littering(func(c *call, _ string) bool {
			return strings.HasPrefix(c.env["CNI_NETNS"], "/proc/")
		}),
		"names-no-master": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if e, failed := a.errorOf(); failed && strings.Contains(e.Msg, "master") {
				return c.fail(e.Code, "link not found")
			}
			return a
		}),
		"keeps-link-on-failure": on("ADD", func(c *call, _ plugin) answer {
			if a, refused := c.refuse(); refused {
				return a
			}
			a := real(c)
			if a.status != 0 {
				ipam(c.as("DEL"))
			}
			return a
		}),
		"keeps-address-on-failure": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if a.status != 0 && strings.Contains(a.stdout, "of that name") {
				ipam(c.with("CNI_CONTAINERID", c.env["CNI_CONTAINERID"]+"-failed"))
			}
			return a
		}),
		"keeps-one-family": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if strings.Contains(a.stdout, "no IP addresses available") {
				_ = write(c.reservations()+"/192.168.1.99", c.env["CNI_CONTAINERID"]+"\r\n"+c.env["CNI_IFNAME"])
			}
			return a
		}),
		"shrinks-uplink": on("ADD", func(c *call, next plugin) answer {
			if link, err := netlink.LinkByName(c.text("master")); err == nil {
				_ = netlink.LinkSetMTU(link, 1400)
			}
			return next(c)
		}),
		"leaves-tentative": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if a.status == 0 {
				if err := c.inPod(c.addAgain); err != nil {
					return c.fail(109, "%v", err)
				}
			}
			return a
		}),
		// No defect: an unknown container is noticed before anything is made.
		"knows-containers":          unknownContainers(false),
		"litters-without-container": unknownContainers(true),
		"needs-programs": on("ADD", func(c *call, next plugin) answer {
			if _, err := exec.LookPath("sh"); err != nil {
				panic(err)
			}
			return next(c)
		}),
	}
}

// littering returns an ADD that leaves a file behind if it fails in a certain way.
func littering(when func(c *call, msg string) bool) defect {
	return on("ADD", func(c *call, next plugin) answer {
		a := next(c)
		if e, failed := a.errorOf(); failed && when(c, e.Msg) {
			if err := note("litter", e.Msg); err != nil {
				a.stderr += err.Error()
			}
		}
		return a
	})
}

// pinWrongMAC makes a permanent neighbour for the pod's gateway, with an unused MAC.
func (c *call) pinWrongMAC(a answer) error {
	result, ok := a.result()
	if !ok {
		return nil
	}
	return c.inPod(func() error {
		link, err := netlink.LinkByName(c.env["CNI_IFNAME"])
		if err != nil {
			return err
		}
		for _, ip := range objects(result, "ips") {
			gateway, _ := ip["gateway"].(string)
			entry := &netlink.Neigh{
				LinkIndex: link.Attrs().Index, IP: net.ParseIP(gateway), HardwareAddr: net.HardwareAddr{
					2, 0, 0, 0xde,
					0xad, 1,
				}, State: netlink.NUD_PERMANENT,
			}
			if err := netlink.NeighSet(entry); err != nil {
				return err
			}
		}
		return nil
	})
}

// addAgain removes the pod's IPv6 addresses and adds them again, so that the kernel looks for duplicates.
func (c *call) addAgain() error {
	link, err := netlink.LinkByName(c.env["CNI_IFNAME"])
	if err != nil {
		return err
	}
	list, err := netlinksafe.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.Scope != int(netlink.SCOPE_UNIVERSE) {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: a.IPNet}); err != nil {
			return err
		}
	}
	return nil
}

// unknownContainers returns an ADD that fails with code 3 if there is no namespace.
func unknownContainers(litter bool) defect {
	return on("ADD", func(c *call, next plugin) answer {
		if _, err := os.Stat(c.env["CNI_NETNS"]); err == nil || len(c.config) == 0 || c.env["CNI_NETNS"] == "" {
			return next(c)
		}
		if litter {
			if err := note("litter", c.env["CNI_CONTAINERID"]); err != nil {
				return c.fail(types.ErrIOFailure, "%v", err)
			}
		}
		return c.fail(types.ErrUnknownContainer, "CNI_NETNS %s: no such namespace", c.env["CNI_NETNS"])
	})
}
