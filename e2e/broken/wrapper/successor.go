package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// successors returns defects that show when a pod comes after another one, or is deleted when other things have gone.
func successors() map[string]defect {
	return map[string]defect{
		// A device of the node has the name of the pod, and DEL of any of its containers deletes it.
		"names-by-pod": func(c *call, next plugin) answer {
			name := "pod" + c.argument("K8S_POD_NAME")
			name = name[:min(len(name), unix.IFNAMSIZ-1)]
			a := next(c)
			var err error
			switch {
			case a.status != 0:
			case c.verb == "ADD":
				attrs := netlink.NewLinkAttrs()
				attrs.Name = name
				err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
				if errors.Is(err, unix.EEXIST) {
					err = nil // that of the old container, which is taken over
				}
			case c.verb == "DEL":
				var link netlink.Link
				if link, err = netlink.LinkByName(name); err == nil {
					err = netlink.LinkDel(link)
				} else if errors.As(err, &netlink.LinkNotFoundError{}) {
					err = nil
				}
			}
			if err != nil {
				return c.fail(102, "%s: %v", name, err)
			}
			return a
		},
		// Everybody may write the plugin's record.
		"open-record": func(c *call, next plugin) answer {
			file := filepath.Join(store, "open-"+c.attachment())
			return keep(c, next, file, func() error { return errors.Join(write(file, ""), os.Chmod(file, 0o666)) })
		},
		// A rule for the pod's address is added behind one that a predecessor left.
		"adds-behind": func(c *call, next plugin) answer {
			a := next(c)
			if a.status != 0 || c.verb != "ADD" && c.verb != "DEL" {
				return a
			}
			result := c.prevResult()
			rule := netlink.NewRule()
			rule.Table, rule.Priority, rule.Family = unix.RT_TABLE_MAIN, 1600, netlink.FAMILY_V4
			for _, ip := range objects(result, "ips") {
				text, _ := ip["address"].(string)
				address, _, err := net.ParseCIDR(text)
				if err != nil {
					continue
				}
				rule.Dst = &net.IPNet{IP: address, Mask: net.CIDRMask(32, 32)}
				if c.verb == "ADD" {
					err = netlink.RuleAdd(rule)
				} else {
					_ = netlink.RuleDel(rule) // it may be gone
				}
				if err != nil && !errors.Is(err, unix.EEXIST) {
					return c.fail(102, "rule: %v", err)
				}
			}
			return a
		},
		// Every interface of prevResult must have a MAC.
		"parses-macs": on("DEL", func(c *call, next plugin) answer {
			for _, i := range objects(c.prevResult(), "interfaces") {
				text, _ := i["mac"].(string)
				if _, err := net.ParseMAC(text); text != "" && err != nil {
					return c.fail(102, "prevResult: %v", err)
				}
			}
			return next(c)
		}),
		// DEL looks at the interface that another plugin made.
		"needs-interface": on("DEL", func(c *call, next plugin) answer {
			var gone netlink.LinkNotFoundError
			err := c.inPod(func() error {
				_, err := netlink.LinkByName(c.env["CNI_IFNAME"])
				return err
			})
			if errors.As(err, &gone) && c.prevResult() != nil {
				return c.fail(102, "%s: %v", c.env["CNI_IFNAME"], err)
			}
			return next(c)
		}),
		// It knows of its device by two files, each of which may be missing, but not both.
		"twin-records": twinRecords,
	}
}

// twinRecords makes a device for a container, and two records of it.
func twinRecords(c *call, next plugin) answer {
	id := c.env["CNI_CONTAINERID"]
	name := "twin" + strconv.Itoa(numberOf(id))
	files := []string{filepath.Join(volatile, id), filepath.Join(store, id)}
	a := next(c)
	if a.status != 0 {
		return a
	}
	var err error
	switch c.verb {
	case "ADD":
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		err = errors.Join(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}), write(files[0], name),
			write(files[1], name))
	case "DEL":
		known := false
		for _, f := range files {
			known = os.Remove(f) == nil || known
		}
		link, missing := netlink.LinkByName(name)
		if known && missing == nil {
			err = netlink.LinkDel(link)
		}
	}
	if err != nil {
		return c.fail(102, "%s: %v", name, err)
	}
	return a
}

// argument returns a value of CNI_ARGS.
func (c *call) argument(name string) string {
	for _, pair := range strings.Split(c.env["CNI_ARGS"], ";") {
		if key, value, _ := strings.Cut(pair, "="); key == name {
			return value
		}
	}
	return ""
}
