package main

import (
	"errors"
	"hash/fnv"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// leaks returns defects that leave one kind of state on the node with each attachment. They make it when DEL deletes an
// existing attachment, so that ADD and CHECK are not affected.
func leaks() map[string]defect {
	all := map[string]defect{"leaks-reservation": alone("DEL")}
	makers := map[string]func(c *call, number int) error{
		"link": func(_ *call, number int) error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "leak" + strconv.Itoa(number)
			return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
		},
		"address": func(_ *call, number int) error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(lo, &netlink.Addr{IPNet: numbered(number)})
		},
		"route": func(_ *call, number int) error {
			return netlink.RouteAdd(&netlink.Route{Dst: numbered(number), Type: unix.RTN_BLACKHOLE})
		},
		"rule": func(_ *call, number int) error {
			rule := netlink.NewRule()
			rule.Src, rule.Table, rule.Priority, rule.Family = numbered(number), unix.RT_TABLE_MAIN, 1000,
				netlink.FAMILY_V4
			return netlink.RuleAdd(rule)
		},
		"neighbour": func(c *call, number int) error {
			link, err := netlink.LinkByName(c.text("master"))
			if err != nil {
				return err
			}
			return netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link.Attrs().Index, IP: numbered(number).IP, HardwareAddr: link.Attrs().HardwareAddr,
				State: netlink.NUD_PERMANENT,
			})
		},
		"nftables": func(_ *call, number int) error {
			conn, err := nftables.New()
			if err != nil {
				return err
			}
			conn.AddTable(&nftables.Table{Name: "leak" + strconv.Itoa(number), Family: nftables.TableFamilyIPv4})
			return conn.Flush()
		},
		"qdisc":   leakClass,
		"file":    func(_ *call, number int) error { return note("leak"+strconv.Itoa(number), "") },
		"process": func(*call, int) error { return linger("1h", nil) },
		// each over the one before
		"mount": func(*call, int) error { return unix.Mount("leak", "/mnt", "tmpfs", 0, "size=4k") },
	}
	maps.Copy(makers, tableLeaks())
	for kind, make := range makers {
		all["leaks-"+kind] = on("DEL", func(c *call, next plugin) answer {
			there := c.prevResult() != nil && c.inPod(func() error {
				_, err := netlink.LinkByName(c.env["CNI_IFNAME"])
				return err
			}) == nil
			a := next(c)
			if a.status != 0 || !there {
				return a
			}
			if err := make(c, numberOf(c.env["CNI_CONTAINERID"])); err != nil && !errors.Is(err, unix.EEXIST) {
				return c.fail(102, "leak: %v", err)
			}
			return a
		})
	}
	return all
}

// numberOf returns a number derived from a text.
func numberOf(text string) int {
	sum := fnv.New32a()
	sum.Write([]byte(text))
	return int(sum.Sum32() % 60000)
}

// numbered returns an address of the network for benchmarks, which no host has.
func numbered(number int) *net.IPNet {
	return &net.IPNet{IP: net.IPv4(198, 18, byte(number>>8), byte(number)).To4(), Mask: net.CIDRMask(32, 32)}
}

// leakClass adds a class to a queue of the node.
func leakClass(_ *call, number int) error {
	link, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	// An earlier call may have made it.
	root := netlink.NewHtb(netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT,
	})
	if err := netlink.QdiscAdd(root); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	class := netlink.NewHtbClass(netlink.ClassAttrs{
		LinkIndex: link.Attrs().Index, Parent: netlink.MakeHandle(1, 0), Handle: netlink.MakeHandle(1,
			uint16(number+1)),
	}, netlink.HtbClassAttrs{Rate: 1 << 30})
	return netlink.ClassAdd(class)
}

// Directories of the defects' files on the node: on its disk, and until it is rebooted.
const (
	store    = "/var/lib/broken"
	volatile = "/run/broken"
)

func note(name, text string) error { return write(filepath.Join(store, name), text) }

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
