package snapshot

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The attributes of a nexthop object (include/uapi/linux/nexthop.h), which the netlink library does not support.
const (
	nexthopID        = 1
	nexthopGroup     = 2
	nexthopBlackhole = 4
	nexthopDevice    = 5
	nexthopGateway   = 6
	nexthopFDB       = 11
	nexthopHeader    = 8
)

// takeNexthops reads nexthop objects, as `ip nexthop` shows them.
func (n network) takeNexthops() ([]object, error) {
	messages, err := dump(unix.NETLINK_ROUTE, unix.RTM_GETNEXTHOP, make([]byte, nexthopHeader))
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, m := range messages {
		if len(m) < nexthopHeader {
			continue
		}
		attributes, err := attributesOf(m[nexthopHeader:])
		if err != nil {
			return nil, err
		}
		var id uint32
		var text words
		for _, a := range attributes {
			switch a.Type & nl.NLA_TYPE_MASK {
			case nexthopID:
				id = binary.NativeEndian.Uint32(a.Data)
			case nexthopGroup:
				for member := a.Data; len(member) >= 8; member = member[8:] {
					text.addf(true, "group %d weight %d", binary.NativeEndian.Uint32(member), member[4]+1)
				}
			case nexthopBlackhole:
				text.add("blackhole")
			case nexthopDevice:
				text.addf(true, "dev %s", n.name(int(binary.NativeEndian.Uint32(a.Data))))
			case nexthopGateway:
				if addr, ok := netip.AddrFromSlice(a.Data); ok {
					text.addf(true, "via %s", addr)
				}
			case nexthopFDB:
				text.add("fdb")
			}
		}
		objects = append(objects, object{
			Item: Item{Name: fmt.Sprintf("id %d", id), Text: text.String()}, remove: func() error {
				return removeNexthop(id)
			},
		})
	}
	return objects, nil
}

// leading is the header of a message, which precedes its attributes; the library puts raw data after them.
type leading []byte

// Len returns its size in bytes.
func (l leading) Len() int { return len(l) }

// Serialize returns the bytes themselves.
func (l leading) Serialize() []byte { return l }

func removeNexthop(id uint32) error {
	request := nl.NewNetlinkRequest(unix.RTM_DELNEXTHOP, unix.NLM_F_ACK)
	request.AddData(leading(make([]byte, nexthopHeader)))
	request.AddData(nl.NewRtAttr(nexthopID, nl.Uint32Attr(id)))
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// takeLabels reads the labels by which the kernel chooses IPv6 source addresses (include/uapi/linux/if_addrlabel.h).
// Each namespace starts with the same labels.
func (n network) takeLabels() ([]object, error) {
	const header, address, label = 12, 1, 2
	messages, err := dump(unix.NETLINK_ROUTE, unix.RTM_GETADDRLABEL, append([]byte{unix.AF_INET6},
		make([]byte, header-1)...))
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, m := range messages {
		if len(m) < header {
			continue
		}
		var name words
		for _, value := range nestedOf(m[header:], address) {
			if addr, ok := netip.AddrFromSlice(value); ok {
				name.addf(true, "%s/%d", addr, m[2])
			}
		}
		device := binary.NativeEndian.Uint32(m[4:])
		name.addf(device != 0, "dev %s", n.name(int(device)))
		var text words
		for _, value := range nestedOf(m[header:], label) {
			text.addf(true, "label %d", binary.NativeEndian.Uint32(value))
		}
		objects = append(objects, object{Item: Item{Name: name.String(), Text: text.String()}})
	}
	return objects, nil
}
