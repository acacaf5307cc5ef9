package fault

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// sockDestroy is SOCK_DESTROY (include/uapi/linux/sock_diag.h).
const sockDestroy = 21

// nlMessage is a netlink message in a send or a receive.
type nlMessage struct {
	// offset is its offset in the data.
	offset int
	header unix.NlMsghdr
	body   []byte
	// batched means that it is part of a batch of nf_tables.
	batched bool
}

// uint32 returns the number at an offset from the message's beginning, which must be in its body.
func (m nlMessage) uint32(offset int) uint32 {
	return binary.NativeEndian.Uint32(m.body[offset-unix.SizeofNlMsghdr:])
}

// messages splits data. It stops at a truncated or malformed message.
func messages(data []byte) (list []nlMessage) {
	order := binary.NativeEndian
	batched := false
	for offset := 0; offset+unix.SizeofNlMsghdr <= len(data); {
		at := data[offset:]
		header := unix.NlMsghdr{
			Len: order.Uint32(at), Type: order.Uint16(at[4:]), Flags: order.Uint16(at[6:]),
			Seq: order.Uint32(at[8:]), Pid: order.Uint32(at[12:]),
		}
		if header.Len < unix.SizeofNlMsghdr || int(header.Len) > len(at) {
			break
		}
		list = append(list, nlMessage{
			offset: offset, header: header, body: at[unix.SizeofNlMsghdr:header.Len], batched: batched,
		})
		batched = batched || header.Type == unix.NFNL_MSG_BATCH_BEGIN
		offset += int(header.Len+unix.NLMSG_ALIGNTO-1) &^ (unix.NLMSG_ALIGNTO - 1)
	}
	return list
}

// changes reports whether a message changes something.
func (m nlMessage) changes(protocol int) bool {
	kind := m.header.Type
	if kind < unix.NLMSG_MIN_TYPE || m.header.Flags&unix.NLM_F_REQUEST == 0 {
		return false
	}
	switch protocol {
	case unix.NETLINK_ROUTE:
		// New, delete, get, set: each object has its types in this order (include/uapi/linux/rtnetlink.h).
		return kind%4 != unix.RTM_GETLINK%4
	case unix.NETLINK_NETFILTER:
		return netfilterChanges(kind>>8, kind&0xff)
	case unix.NETLINK_XFRM:
		switch nl.XfrmMsgType(kind) {
		case nl.XFRM_MSG_GETSA, nl.XFRM_MSG_GETPOLICY, nl.XFRM_MSG_GETAE, nl.XFRM_MSG_GETSADINFO,
			nl.XFRM_MSG_GETSPDINFO:
			return false
		}
		return true
	case unix.NETLINK_SOCK_DIAG:
		return kind == sockDestroy
	case unix.NETLINK_GENERIC:
		if kind == unix.GENL_ID_CTRL {
			return false
		}
	}
	// For a family that is not known here: dumps are queries, and all others may change something.
	return m.header.Flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP
}

func netfilterChanges(subsystem, kind uint16) bool {
	switch subsystem {
	case unix.NFNL_SUBSYS_NONE:
		return false // begin and end of a batch
	case unix.NFNL_SUBSYS_NFTABLES:
		verb, _, ok := nftName(kind)
		return !ok || verb != "GET"
	case unix.NFNL_SUBSYS_CTNETLINK, unix.NFNL_SUBSYS_CTNETLINK_EXP:
		return kind == 0 || kind == 2 // new and delete; all others are queries
	case unix.NFNL_SUBSYS_IPSET:
		switch kind {
		case nl.IPSET_CMD_PROTOCOL, nl.IPSET_CMD_LIST, nl.IPSET_CMD_SAVE, nl.IPSET_CMD_TEST, nl.IPSET_CMD_HEADER,
			nl.IPSET_CMD_TYPE:
			return false
		}
		return true
	case unix.NFNL_SUBSYS_NFT_COMPAT, unix.NFNL_SUBSYS_QUEUE, unix.NFNL_SUBSYS_ULOG, unix.NFNL_SUBSYS_HOOK:
		return false
	}
	return kind != 1
}

// describeNetlink returns a description of a send; false if it changes nothing. link returns the names of links in the
// socket's namespace.
func describeNetlink(protocol int, list []nlMessage, link func(index uint32) string) (string, bool) {
	var parts []string
	times := 0
	flush := func() {
		if times > 1 {
			parts[len(parts)-1] += fmt.Sprintf(" (%d times)", times)
		}
	}
	for _, m := range list {
		if !m.changes(protocol) {
			continue
		}
		part := m.describe(protocol, link)
		if len(parts) > 0 && parts[len(parts)-1] == part {
			times++
			continue
		}
		flush()
		parts, times = append(parts, part), 1
	}
	flush()
	return strings.Join(parts, "; "), len(parts) > 0
}

func (m nlMessage) describe(protocol int, link func(uint32) string) string {
	kind := m.header.Type
	switch {
	case protocol == unix.NETLINK_ROUTE:
		return describeRoute(kind, m.body, link)
	case protocol == unix.NETLINK_NETFILTER && kind>>8 == unix.NFNL_SUBSYS_NFTABLES:
		return describeNftables(kind&0xff, m.body)
	case protocol == unix.NETLINK_NETFILTER && kind>>8 == unix.NFNL_SUBSYS_CTNETLINK:
		if kind&0xff == 0 {
			return "conntrack new"
		}
		return "conntrack delete"
	case protocol == unix.NETLINK_NETFILTER && kind>>8 == unix.NFNL_SUBSYS_IPSET:
		return fmt.Sprintf("ipset command %d", kind&0xff)
	case protocol == unix.NETLINK_NETFILTER:
		return fmt.Sprintf("netfilter subsystem %d message %d", kind>>8, kind&0xff)
	case protocol == unix.NETLINK_XFRM:
		return fmt.Sprintf("xfrm message %#x", kind)
	case protocol == unix.NETLINK_GENERIC:
		return fmt.Sprintf("generic netlink family %d", kind)
	}
	return fmt.Sprintf("netlink protocol %d message %d", protocol, kind)
}
