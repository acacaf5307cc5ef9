package snapshot

import (
	"cmp"
	"errors"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
)

// linkSetting is a property of a link that can be set.
type linkSetting struct {
	// pattern finds the setting in the text of a link. Its group is the value; without a match it has none.
	pattern *regexp.Regexp
	set     func(h *netlink.Handle, link netlink.Link, value string) error
}

// linkSettings are in the order in which they are set: up or down comes last, since a link that goes down loses
// addresses and routes.
var linkSettings = sync.OnceValue(func() []linkSetting {
	return []linkSetting{
		{regexp.MustCompile(` master (\S+)`), setMaster},
		{regexp.MustCompile(` mtu (\d+)`), setNumber((*netlink.Handle).LinkSetMTU)},
		{regexp.MustCompile(` link/\S+ ((?:[0-9a-f]{2}:)+[0-9a-f]{2})\b`), setHardwareAddr},
		{regexp.MustCompile(` group (\d+)`), setNumber((*netlink.Handle).LinkSetGroup)},
		{regexp.MustCompile(` qlen (\d+)`), setNumber((*netlink.Handle).LinkSetTxQLen)},
		{regexp.MustCompile(` alias ("(?:[^"\\]|\\.)*")`), setAlias},
		{regexp.MustCompile(`[<,](NOARP)\b`), setFlag((*netlink.Handle).LinkSetARPOff, (*netlink.Handle).LinkSetARPOn)},
		{regexp.MustCompile(`[<,](MULTICAST)\b`), setFlag((*netlink.Handle).LinkSetMulticastOn, (*netlink.Handle).LinkSetMulticastOff)},
		{regexp.MustCompile(`[<,](ALLMULTI)\b`), setFlag((*netlink.Handle).LinkSetAllmulticastOn, (*netlink.Handle).LinkSetAllmulticastOff)},
		{regexp.MustCompile(`[<,](PROMISC)\b`), setFlag((*netlink.Handle).SetPromiscOn, (*netlink.Handle).SetPromiscOff)},
		{regexp.MustCompile(`[<,](UP)\b`), setFlag((*netlink.Handle).LinkSetUp, (*netlink.Handle).LinkSetDown)},
	}
})

// followsSettings matches the parts of the text that change with the settings of a link, or with links on top of it.
var followsSettings = regexp.MustCompile(`,LOWER_UP\b|[<,]SLAVE\b| state \S+| promiscuity \d+| allmulti \d+|^<|>`)

func setNumber(set func(*netlink.Handle, netlink.Link, int) error) func(*netlink.Handle, netlink.Link, string) error {
	return func(h *netlink.Handle, link netlink.Link, value string) error {
		number, err := strconv.Atoi(value)
		if err != nil {
			return err
		}
		return set(h, link, number)
	}
}

func setFlag(on, off func(*netlink.Handle, netlink.Link) error) func(*netlink.Handle, netlink.Link, string) error {
	return func(h *netlink.Handle, link netlink.Link, value string) error {
		if value == "" {
			return off(h, link)
		}
		return on(h, link)
	}
}

func setMaster(h *netlink.Handle, link netlink.Link, name string) error {
	if name == "" {
		return h.LinkSetNoMaster(link)
	}
	master, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.LinkSetMaster(link, master)
}

func setHardwareAddr(h *netlink.Handle, link netlink.Link, value string) error {
	mac, err := net.ParseMAC(value)
	if err != nil {
		return err
	}
	return h.LinkSetHardwareAddr(link, mac)
}

func setAlias(h *netlink.Handle, link netlink.Link, quoted string) error {
	alias, err := strconv.Unquote(cmp.Or(quoted, `""`))
	if err != nil {
		return err
	}
	return h.LinkSetAlias(link, alias)
}

// value returns the value of a setting in a text.
func (s linkSetting) value(text string) string {
	if match := s.pattern.FindStringSubmatch(text); match != nil {
		return match[1]
	}
	return ""
}

// fixed returns the parts of a link's text that cannot be set.
func fixed(text string) string {
	for _, s := range linkSettings() {
		text = s.pattern.ReplaceAllString(text, "")
	}
	return strings.TrimSpace(followsSettings.ReplaceAllString(text, ""))
}

// resettable returns the reason why a link cannot be changed back to an earlier text, or nil.
func resettable(text, before string) error {
	if fixed(text) != fixed(before) {
		return errors.New("more than its master, mtu, address, group, qlen, alias and flags has changed")
	}
	for _, s := range linkSettings() {
		if s.value(text) != s.value(before) {
			return nil
		}
	}
	return errors.New("none of its settings has changed: it follows other links")
}

// restoreLink sets the settings that differ from an earlier text.
func (n network) restoreLink(link netlink.Link, text, before string) error {
	for _, s := range linkSettings() {
		value := s.value(before)
		if s.value(text) == value {
			continue
		}
		if err := s.set(n.handle.Handle, link, value); err != nil {
			return err
		}
	}
	return nil
}
