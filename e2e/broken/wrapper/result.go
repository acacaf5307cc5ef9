package main

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// results returns defects of the result of ADD, and of what ADD makes.
func results() map[string]defect {
	nothing := func(*call, map[string]any) {}
	return map[string]defect{
		"forgets-dns":  adding(func(_ *call, result map[string]any) { delete(result, "dns") }),
		"unknown-key":  adding(func(_ *call, result map[string]any) { result["attached"] = true }),
		"no-addresses": adding(func(_ *call, result map[string]any) { delete(result, "ips") }),
		"keys-of-another-version": on("ADD", func(c *call, next plugin) answer {
			if c.text("cniVersion") != "0.2.0" {
				return next(c)
			}
			return next(c.edited(func(config map[string]any) {
				config["cniVersion"] = "1.0.0"
			})).edited(func(result map[string]any) { result["cniVersion"] = "0.2.0" })
		}),
		"forgets-family": adding(eachIP(func(_ *call, ip map[string]any) { delete(ip, "version") })),
		"mistakes-family": adding(eachIP(func(_ *call, ip map[string]any) {
			if ip["version"] != nil {
				ip["version"] = "6"
			}
		})),
		"keeps-family": adding(eachIP(func(_ *call, ip map[string]any) { ip["version"] = "4" })),
		"routes-of-its-own": adding(func(_ *call, result map[string]any) {
			for _, route := range objects(result, "routes") {
				route["via"] = route["gw"]
			}
		}),
		"old-version": adding(func(c *call, result map[string]any) {
			if c.text("cniVersion") == "1.1.0" {
				result["cniVersion"] = "1.0.0"
			}
		}),
		"forgets-routes": lying(func(_ *call, result map[string]any) { delete(result, "routes") }, nothing),
		"forgets-interfaces": adding(func(_ *call, result map[string]any) {
			delete(result, "interfaces")
			for _, ip := range objects(result, "ips") {
				delete(ip, "interface")
			}
		}),
		"does-nothing": doing(func(map[string]any) {}),
		"changes-nothing-but-the-result": doing(func(result map[string]any) {
			result["dns"] = map[string]any{"nameservers": []string{"192.0.2.53"}}
		}),
		"takes-the-name": on("ADD", func(c *call, next plugin) answer {
			_ = c.inPod(func() error {
				link, err := netlink.LinkByName(c.env["CNI_IFNAME"])
				if err != nil {
					return err
				}
				return netlink.LinkDel(link)
			})
			return next(c)
		}),
		"hides-mac": adding(eachInterface(func(_ *call, i map[string]any) { delete(i, "mac") })),
		"names-no-socket": lying(eachInterface(func(_ *call, i map[string]any) { i["socketPath"] = "vhost.sock" }),
			eachInterface(func(_ *call, i map[string]any) { delete(i, "socketPath") })),
		"invents-devices": lying(eachInterface(func(_ *call, i map[string]any) { i["pciID"] = "ffff:ff:1f.7" }),
			eachInterface(func(_ *call, i map[string]any) { delete(i, "pciID") })),
		"hides-a-route": on("ADD", func(c *call, next plugin) answer {
			return c.alsoInPod(next(c), func(link netlink.Link) error {
				dst := &net.IPNet{IP: net.IPv4(203, 0, 113, 0), Mask: net.CIDRMask(24, 32)}
				return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst})
			})
		}),
		"hides-an-address": on("ADD", func(c *call, next plugin) answer {
			return c.alsoInPod(next(c), func(link netlink.Link) error {
				address, err := netlink.ParseAddr("203.0.113.9/32")
				if err != nil {
					return err
				}
				return netlink.AddrAdd(link, address)
			})
		}),
		"forgets-dns-options": adding(func(_ *call, result map[string]any) {
			if dns, ok := result["dns"].(map[string]any); ok {
				delete(dns, "options")
			}
		}),
		"hides-node-links": adding(func(_ *call, result map[string]any) {
			var kept []map[string]any
			for _, i := range objects(result, "interfaces") {
				if i["sandbox"] != nil {
					kept = append(kept, i)
				}
			}
			result["interfaces"] = kept
		}),
		"no-sandbox": lying(eachInterface(func(_ *call, i map[string]any) { delete(i, "sandbox") }),
			eachInterface(func(c *call, i map[string]any) { i["sandbox"] = c.env["CNI_NETNS"] })),
		"wrong-mac": lying(eachInterface(swapMAC), eachInterface(swapMAC)),
		"wrong-mtu": lying(eachInterface(func(_ *call, i map[string]any) {
			i["mtu"] = 1400
		}), eachInterface(func(_ *call, i map[string]any) { delete(i, "mtu") })),
		"wrong-address": lying(eachIP(swapAddress), eachIP(swapAddress)),
		"wrong-gateway": lying(eachIP(func(_ *call, ip map[string]any) { ip["gateway"] = "203.0.113.1" }), nothing),
		"wrong-index": lying(eachIP(func(_ *call, ip map[string]any) { ip["interface"] = 7 }),
			eachIP(func(_ *call, ip map[string]any) { ip["interface"] = 0 })),
		"says-a-route": lying(func(_ *call, result map[string]any) {
			routes, _ := result["routes"].([]any)
			result["routes"] = append(routes, map[string]any{"dst": "203.0.113.0/24", "gw": "192.168.0.1"})
		}, func(_ *call, result map[string]any) {
			var said []map[string]any
			for _, r := range objects(result, "routes") {
				if r["dst"] != "203.0.113.0/24" {
					said = append(said, r)
				}
			}
			result["routes"] = said
		}),
		"ipam-names-an-interface": adding(eachIP(func(_ *call, ip map[string]any) { ip["interface"] = 0 })),
	}
}

// doing returns a chained plugin that changes nothing on node and pod.
func doing(edit func(result map[string]any)) defect {
	return func(c *call, next plugin) answer {
		if c.verb == "VERSION" {
			return next(c)
		}
		// It uses the library nevertheless.
		a := execute(filepath.Join(filepath.Dir(c.plugin), "nothing"), c)
		if a.status != 0 || c.verb != "ADD" || c.prevResult() == nil {
			return a
		}
		edit(c.prevResult())
		text, err := json.Marshal(c.prevResult())
		if err != nil {
			return c.fail(100, "%v", err)
		}
		return answer{stdout: string(text)}
	}
}

// eachInterface returns a function that edits the interfaces in the pod.
func eachInterface(edit func(c *call, i map[string]any)) func(*call, map[string]any) {
	return func(c *call, result map[string]any) {
		for _, i := range objects(result, "interfaces") {
			edit(c, i)
		}
	}
}

func eachIP(edit func(c *call, ip map[string]any)) func(*call, map[string]any) {
	return func(c *call, result map[string]any) {
		for _, ip := range objects(result, "ips") {
			edit(c, ip)
		}
	}
}

// swapped exchanges the digits 2 and 3 at one position of a text; doing it twice restores the text.
func swapped(text string, at int) string {
	if at < 0 || at >= len(text) {
		return text
	}
	digit := strings.NewReplacer("2", "3", "3", "2", "0", "1", "1", "0", "4", "5", "5", "4", "6", "7", "7", "6", "8",
		"9", "9", "8",
		"a", "b", "b", "a", "c", "d", "d", "c", "e", "f", "f", "e").Replace(text[at : at+1])
	return text[:at] + digit + text[at+1:]
}

func swapMAC(_ *call, i map[string]any) {
	mac, _ := i["mac"].(string)
	i["mac"] = swapped(mac, len(mac)-1)
}

func swapAddress(_ *call, ip map[string]any) {
	address, _ := ip["address"].(string)
	ip["address"] = swapped(address, strings.Index(address, "/")-1)
}

// alsoInPod does something more with the pod's interface after a successful ADD.
func (c *call) alsoInPod(a answer, do func(link netlink.Link) error) answer {
	if a.status != 0 {
		return a
	}
	if err := c.inPod(func() error {
		link, err := netlink.LinkByName(c.env["CNI_IFNAME"])
		if err != nil {
			return err
		}
		return do(link)
	}); err != nil {
		return c.fail(100, "%v", err)
	}
	return a
}
