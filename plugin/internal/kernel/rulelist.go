package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// RulesOf returns the rules that have an address in them, without those that a Rule cannot hold.
func (n *Namespace) RulesOf(ip netip.Addr) ([]Rule, error) {
	address := ip.AsSlice()
	return n.rulesWhere(familyOf(ip.Is6()), func(message []byte) bool { return bytes.Contains(message, address) })
}

// RulesAt returns the IPv4 rules of some priorities, without those that a Rule cannot hold.
func (n *Namespace) RulesAt(priorities ...int) ([]Rule, error) {
	return n.rulesWhere(unix.AF_INET, func(message []byte) bool {
		return slices.Contains(priorities, attribute(message, nl.FRA_PRIORITY))
	})
}

// rulesWhere lists the rules of a family and parses those that a function chooses by their message. The kernel has no
// request for some rules, and its list of thousands takes a tenth of the time that it takes to parse all of them.
func (n *Namespace) rulesWhere(family int, choose func(message []byte) bool) ([]Rule, error) {
	rules, err := Retry(func() (rules []Rule, err error) {
		request, err := n.request(unix.RTM_GETRULE, unix.NLM_F_DUMP)
		if err != nil {
			return nil, err
		}
		request.AddData(nl.NewIfInfomsg(family))
		var wrong error
		err = request.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWRULE, func(message []byte) bool {
			if !choose(message) {
				return true
			}
			rule, ok, err := parseRule(message)
			if ok {
				rules = append(rules, rule)
			}
			wrong = errors.Join(wrong, err)
			return true
		})
		return rules, errors.Join(err, wrong)
	})
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return rules, nil
}

// parseRule reports false if the rule has properties that a Rule cannot hold, as ReadRule does.
func parseRule(message []byte) (r Rule, ok bool, err error) {
	header := nl.DeserializeRtMsg(message) // struct fib_rule_hdr has its layout
	attributes, err := nl.ParseRouteAttr(message[header.Len():])
	if err != nil {
		return r, false, err
	}
	r.IPv6, r.Not = header.Family == unix.AF_INET6, header.Flags&netlink.FibRuleInvert != 0
	ok = header.Tos == 0
	if header.Type >= nl.FR_ACT_BLACKHOLE { // and the two behind it
		r.Refuse = header.Type
	}
	for _, a := range attributes {
		number := func() int { return int(binary.NativeEndian.Uint32(a.Value)) }
		switch a.Attr.Type {
		case nl.FRA_SRC:
			r.From = prefix(a.Value, header.Src_len)
		case nl.FRA_DST:
			r.To = prefix(a.Value, header.Dst_len)
		case nl.FRA_PRIORITY:
			r.Priority = number()
		case nl.FRA_FWMARK:
			r.Mark = uint32(number())
		case nl.FRA_FWMASK:
			r.Mask = uint32(number())
		case nl.FRA_TABLE:
			r.Table = number()
		case nl.FRA_GOTO:
			r.Goto = number()
		case nl.FRA_SUPPRESS_PREFIXLEN:
			r.SuppressPrefix = max(0, int(int32(number())))
		case nl.FRA_IIFNAME:
			r.IifName = unix.ByteSliceToString(a.Value)
		case nl.FRA_OIFNAME, nl.FRA_TUN_ID, nl.FRA_L3MDEV, nl.FRA_UID_RANGE, nl.FRA_IP_PROTO,
			nl.FRA_SPORT_RANGE, nl.FRA_DPORT_RANGE:
			ok = false
		}
	}
	return r, ok, nil
}

func prefix(address []byte, bits uint8) netip.Prefix {
	ip, _ := netip.AddrFromSlice(address)
	return netip.PrefixFrom(ip, int(bits))
}
