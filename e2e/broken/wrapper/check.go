package main

import (
	"fmt"
	"net"
	"os"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
)

// checks returns defects of CHECK.
func checks() map[string]defect {
	return map[string]defect{
		"checks-nothing": on("CHECK", func(c *call, next plugin) answer {
			a := next(c)
			// The library notices mistakes of the call itself.
			if e, failed := a.errorOf(); failed && e.Code < 100 {
				return a
			}
			return answer{}
		}),
		"checks-without-prevresult": on("CHECK", func(c *call, next plugin) answer {
			if c.attached() && c.prevResult() == nil {
				return answer{}
			}
			return next(c)
		}),
		"believes-the-kernel": on("CHECK", func(c *call, next plugin) answer {
			a := next(c)
			if e, failed := a.errorOf(); failed && c.prevResult() != nil && c.hasAddress() {
				_ = e
				return answer{}
			}
			return a
		}),
		"knows-all-routes": on("CHECK", func(c *call, next plugin) answer {
			err := c.inPod(func() error {
				routes, err := netlinksafe.RouteList(nil, netlink.FAMILY_V4)
				for _, r := range routes {
					if r.Gw != nil && r.Dst != nil && r.Dst.String() != "0.0.0.0/0" {
						err = fmt.Errorf("route to %s: not of this plugin", r.Dst)
					}
				}
				return err
			})
			if err != nil && c.attached() {
				return c.fail(103, "%v", err)
			}
			return next(c)
		}),
		"overlooks-addresses": on("CHECK", func(c *call, next plugin) answer {
			if c.attached() && c.prevResult() != nil && !c.hasAddress() {
				return answer{}
			}
			return next(c)
		}),
		"overlooks-mac":      on("CHECK", eachOfPrevResult("interfaces", "mac")),
		"overlooks-gateways": on("CHECK", eachOfPrevResult("routes", "gw")),
		"overlooks-down": on("CHECK", func(c *call, next plugin) answer {
			if c.attached() && c.prevResult() != nil && !c.isUp() {
				return answer{}
			}
			return next(c)
		}),
		"checks-a-page": on("CHECK", func(c *call, next plugin) answer {
			files, err := os.ReadDir(c.reservations())
			if err == nil && len(files) > 18 { // with its two files of other kinds
				return c.fail(104, "container %s: not among the first 16", c.env["CNI_CONTAINERID"])
			}
			return next(c)
		}),
		"checks-too-early": on("CHECK", func(c *call, next plugin) answer {
			// the first CHECK of each attachment
			path := volatile + "/checked-" + c.env["CNI_CONTAINERID"]
			if _, err := os.Stat(path); err != nil && c.attached() {
				if err := write(path, ""); err != nil {
					return c.fail(5, "%v", err)
				}
				return c.fail(105, "container %s: not ready yet", c.env["CNI_CONTAINERID"])
			}
			return next(c)
		}),
		"swallows-reservations": on("CHECK", func(c *call, next plugin) answer {
			a := next(c)
			if ipam(c).status != 0 && c.attached() && c.hasAddress() && c.isUp() && c.prevResult() != nil {
				return answer{}
			}
			return a
		}),
		"checks-alone":            alone("CHECK"),
		"swallows-error-of-check": swallowing("CHECK"),
	}
}

// link reports whether the interface in the pod satisfies is.
func (c *call) link(is func(netlink.Link) bool) bool {
	found := false
	_ = c.inPod(func() error {
		link, err := netlink.LinkByName(c.env["CNI_IFNAME"])
		found = err == nil && is(link)
		return err
	})
	return found
}

func (c *call) attached() bool { return c.link(func(netlink.Link) bool { return true }) }

func (c *call) isUp() bool {
	return c.link(func(l netlink.Link) bool { return l.Attrs().Flags&net.FlagUp != 0 })
}

func (c *call) hasAddress() bool {
	return c.link(func(l netlink.Link) bool {
		list, err := netlinksafe.AddrList(l, netlink.FAMILY_V4)
		return err == nil && len(list) > 0
	})
}

// eachOfPrevResult returns a defect that takes a key from the objects of a list of prevResult.
func eachOfPrevResult(list, key string) defect {
	return func(c *call, next plugin) answer {
		result := c.prevResult()
		return next(c.edited(func(map[string]any) {
			for _, object := range objects(result, list) {
				delete(object, key)
			}
		}))
	}
}
