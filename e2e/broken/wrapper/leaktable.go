package main

import (
	"encoding/binary"
	"net"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tableLeaks returns leaks into the tables of a network that few plugins write to.
func tableLeaks() map[string]func(c *call, number int) error {
	return map[string]func(c *call, number int) error{
		"fdb": func(c *call, number int) error {
			return addForwarding(c, net.HardwareAddr{2, 0x77, 0, 0, byte(number >> 8), byte(number)})
		},
		"multicast": func(c *call, number int) error {
			return addForwarding(c, net.HardwareAddr{1, 0, 0x5e, 1, byte(number >> 8), byte(number)})
		},
		"nexthop": func(c *call, number int) error {
			link, err := netlink.LinkByName(c.text("master"))
			if err != nil {
				return err
			}
			request := nl.NewNetlinkRequest(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
			request.AddData(header{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0})
			const id, device = 1, 5 // NHA_ID and NHA_OIF of include/uapi/linux/nexthop.h
			request.AddData(nl.NewRtAttr(id, binary.NativeEndian.AppendUint32(nil, uint32(number+1))))
			request.AddData(nl.NewRtAttr(device, binary.NativeEndian.AppendUint32(nil, uint32(link.Attrs().Index))))
			_, err = request.Execute(unix.NETLINK_ROUTE, 0)
			return err
		},
		"xfrm": func(_ *call, number int) error {
			return netlink.XfrmPolicyAdd(&netlink.XfrmPolicy{
				Src: numbered(number), Dst: numbered(number), Dir: netlink.XFRM_DIR_OUT,
			})
		},
		"proxy": func(c *call, number int) error {
			link, err := netlink.LinkByName(c.text("master"))
			if err != nil {
				return err
			}
			return netlink.NeighAdd(&netlink.Neigh{
				LinkIndex: link.Attrs().Index, Family: unix.AF_INET, IP: numbered(number).IP, Flags: unix.NTF_PROXY,
			})
		},
		"action":    addAction,
		"zone":      trackInZone,
		"pin":       pin,
		"namespace": func(_ *call, number int) error { return addNamespace("leak" + strconv.Itoa(number)) },
		"ipset": func(_ *call, number int) error {
			// An earlier call may have made it.
			_ = netlink.IpsetCreate("leak", "hash:ip", netlink.IpsetCreateOptions{})
			return netlink.IpsetAdd("leak", &netlink.IPSetEntry{IP: numbered(number).IP, Replace: true})
		},
	}
}

// header is the header of a message, before its attributes.
type header []byte

// Len returns its size in bytes.
func (h header) Len() int { return len(h) }

// Serialize returns the bytes themselves.
func (h header) Serialize() []byte { return h }

// addForwarding makes the uplink receive another address.
func addForwarding(c *call, mac net.HardwareAddr) error {
	link, err := netlink.LinkByName(c.text("master"))
	if err != nil {
		return err
	}
	return netlink.NeighAppend(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, HardwareAddr: mac, State: unix.NUD_PERMANENT,
		Flags: unix.NTF_SELF,
	})
}
