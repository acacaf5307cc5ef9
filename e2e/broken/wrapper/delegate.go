package main

import (
	"maps"
	"path/filepath"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
)

// delegations returns defects of delegation between plugins.
func delegations() map[string]defect {
	return map[string]defect{
		"keeps-args-to-itself": func(c *call, next plugin) answer {
			return next(c.with("CNI_ARGS", "IgnoreUnknown=1"))
		},
		"keeps-keys-to-itself": func(c *call, next plugin) answer {
			return next(c.edited(func(config map[string]any) {
				ipam, _ := config["ipam"].(map[string]any)
				only := map[string]any{}
				for key, value := range ipam {
					if key != "routes" {
						only[key] = value
					}
				}
				config["ipam"] = only
			}))
		},
		"first-directory": on("ADD", func(c *call, next plugin) answer {
			first, _, _ := strings.Cut(c.env["CNI_PATH"], string(filepath.ListSeparator))
			return next(c.with("CNI_PATH", first))
		}),
		"drops-stderr": func(c *call, next plugin) answer {
			a := next(c)
			a.stderr = ""
			return a
		},
		"swallows-error-of-del": swallowing("DEL"),
		"releases-first": on("DEL", func(c *call, next plugin) answer {
			if a := ipam(c); a.status != 0 {
				return a
			}
			return next(c)
		}),
		"crashes-on-mistakes": on("DEL", func(c *call, next plugin) answer {
			if _, ok := c.config["master"].(string); !ok && c.config["master"] != nil {
				return answer{stderr: "panic: runtime error: invalid memory address\n", status: 2}
			}
			return next(c)
		}),
		"takes-any-gateway": on("ADD", func(c *call, next plugin) answer {
			section, _ := c.config["ipam"].(map[string]any)
			sets, _ := section["ranges"].([]any)
			if len(sets) == 0 {
				return next(c)
			}
			first := sets[0].([]any)[0].(map[string]any)
			gateway := first["gateway"]
			delete(first, "gateway")
			a := next(c.edited(func(map[string]any) {}))
			return a.edited(func(result map[string]any) {
				for _, ip := range objects(result, "ips") {
					ip["gateway"] = gateway
				}
			})
		}),
		"drops-dns": adding(func(_ *call, result map[string]any) { delete(result, "dns") }),
		"rolls-back-alone": on("ADD", func(c *call, _ plugin) answer {
			if a, refused := c.refuse(); refused {
				return a
			}
			a := real(c)
			if a.status != 0 {
				real(c.withoutIPAM().as("DEL"))
			}
			return a
		}),
		"takes-any-answer": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			e, failed := a.errorOf()
			if !failed || !strings.Contains(e.Msg, "signal") {
				return a
			}
			return real(c.edited(func(config map[string]any) { delete(config, "ipam") }))
		}),
		"cleans-environment": func(c *call, next plugin) answer {
			return next(c.with("TRACEPARENT", "").with("TRACESTATE", "").with("BAGGAGE", ""))
		},
		"chokes-on-traces": on("ADD", func(c *call, next plugin) answer {
			if c.env["BAGGAGE"] != "" {
				return c.fail(4, "BAGGAGE: not a variable of CNI")
			}
			return next(c)
		}),
		"follows-paths": on("ADD", func(c *call, next plugin) answer {
			return next(c.withIPAM(func(section map[string]any) {
				name, _ := section["type"].(string)
				section["type"] = filepath.Base(name)
			}))
		}),
		"takes-one-address": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			result, ok := a.result()
			if ips := objects(result, "ips"); ok && len(ips) > 1 {
				_ = c.dropAddress(ips[1])
			}
			return a
		}),
		"forgets-metrics": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if a.status == 0 {
				_ = c.inPod(dropMetrics)
			}
			return a
		}),
		"knows-macvlan": on("CHECK", func(c *call, next plugin) answer {
			if c.attached() && !c.link(func(l netlink.Link) bool { return l.Type() == "macvlan" }) {
				return c.fail(107, "%s: want a macvlan", c.env["CNI_IFNAME"])
			}
			return next(c)
		}),
		"follows-args": on("ADD", func(c *call, next plugin) answer {
			if !strings.Contains(c.env["CNI_ARGS"], "IP=") {
				return next(c)
			}
			return next(c.edited(func(config map[string]any) { delete(config, "args") }))
		}),
	}
}

// withIPAM returns the call with another section ipam.
func (c *call) withIPAM(edit func(section map[string]any)) *call {
	return c.edited(func(config map[string]any) {
		section, _ := config["ipam"].(map[string]any)
		section = maps.Clone(section)
		edit(section)
		config["ipam"] = section
	})
}

// dropAddress removes an address of a result from the pod.
func (c *call) dropAddress(ip map[string]any) error {
	text, _ := ip["address"].(string)
	address, err := netlink.ParseAddr(text)
	if err != nil {
		return err
	}
	return c.inPod(func() error {
		link, err := netlink.LinkByName(c.env["CNI_IFNAME"])
		if err != nil {
			return err
		}
		return netlink.AddrDel(link, address)
	})
}

// dropMetrics gives each route of the pod that has a metric another one.
func dropMetrics() error {
	routes, err := netlinksafe.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Priority == 0 || r.Gw == nil {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil {
			return err
		}
		r.Priority = 0
		if err := netlink.RouteAdd(&r); err != nil {
			return err
		}
	}
	return nil
}
