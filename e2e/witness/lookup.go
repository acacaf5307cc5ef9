package witness

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Question describes a packet for which a kernel is asked where it would send it.
type Question struct {
	Destination string `json:"destination"`
	// Source is the packet's source address; empty leaves the choice to the kernel, as for a socket without an address.
	Source string `json:"source,omitempty"`
	// Interface is the name of the interface on which the packet arrived; empty for a packet that this host sends.
	Interface string `json:"interface,omitempty"`
	Mark      uint32 `json:"mark,omitempty"`
}

// Way says where a kernel sends a packet, or why it sends it nowhere.
type Way struct {
	// Device, Gateway and Source are from the kernel's answer. The device is "lo" for packets to the host itself.
	Device  string `json:"device,omitempty"`
	Gateway string `json:"gateway,omitempty"`
	Source  string `json:"source,omitempty"`
	// Local means that the packet is for this host itself.
	Local bool `json:"local,omitempty"`
	// Refusal is the kernel's error if it sends the packet nowhere: "no route to host".
	Refusal string `json:"refusal,omitempty"`
	// ReversePath means that it refuses the packet because the answer would leave by another interface (rp_filter).
	// Filter is the value of that setting that applies to Interface.
	ReversePath bool `json:"reversePath,omitempty"`
	Filter      int  `json:"filter,omitempty"`
	// MTU is the MTU of the path if the kernel has learned a smaller one than its device has, or if a route has one;
	// otherwise 0.
	MTU int `json:"mtu,omitempty"`
	// IgnoresARP is the value of arp_ignore that applies to Interface: from 1 on the host may not answer requests for
	// its MAC.
	IgnoresARP int `json:"ignoresARP,omitempty"`
	// Route and Rule are those that decided, in ip's words: "192.168.1.2 dev eno1 table main", "1000: from all to
	// 192.168.1.2 blackhole". Rule is empty if it is one of the three that every namespace has, and Route if a rule
	// alone decided, or nothing did. Both are empty if the tables contradict the kernel's answer.
	Route string `json:"route,omitempty"`
	Rule  string `json:"rule,omitempty"`
}

// Lookup asks the kernel, in the namespace at path netns, where it would send a packet (RTM_GETROUTE, as `ip route
// get`), and finds in its tables what decides that. If the kernel would send it nowhere, that is an answer and no
// error. It may be called concurrently.
func Lookup(netns string, q Question) (Way, error) {
	var way Way
	err := within(netns, func() (err error) {
		way, err = lookup(q)
		return err
	})
	if err != nil {
		return Way{}, fmt.Errorf("way to %s: %w", q.Destination, err)
	}
	return way, nil
}

func lookup(q Question) (Way, error) {
	p, err := parseQuestion(q)
	if err != nil {
		return Way{}, err
	}
	d, err := p.decide()
	if err != nil {
		return Way{}, err
	}
	options := &netlink.RouteGetOptions{Iif: q.Interface, Mark: q.Mark}
	if p.source.IsValid() {
		options.SrcAddr = p.source.AsSlice()
	}
	routes, err := netlink.RouteGetWithOptions(p.destination.AsSlice(), options)
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		return p.refused(errno, d), nil
	case err != nil:
		return Way{}, err
	}
	way := Way{Local: routes[0].Type == unix.RTN_LOCAL, MTU: routes[0].MTU}
	if p.iif != "" && p.destination.Is4() {
		way.IgnoresARP = setting("arp_ignore", p.iif)
	}
	if link, err := netlink.LinkByIndex(routes[0].LinkIndex); err == nil {
		way.Device = link.Attrs().Name
	}
	if routes[0].Gw != nil {
		way.Gateway = routes[0].Gw.String()
	}
	if routes[0].Src != nil {
		way.Source = routes[0].Src.String()
	}
	// A route with several hops contains its devices there.
	if d.route != nil && (way.Local || d.route.LinkIndex == routes[0].LinkIndex || len(d.route.MultiPath) > 0) {
		way.Route, way.Rule = routeText(*d.route), ruleText(d.rule, "")
	}
	return way, nil
}

// refused returns the answer for a packet that the kernel sends nowhere.
func (p packet) refused(errno unix.Errno, d decision) Way {
	way := Way{Refusal: errno.Error()}
	switch {
	case d.route == nil && d.rule != nil && d.rule.Table == 0:
		way.Rule = ruleText(d.rule, refusal(errno))
	case d.route != nil && refusing(d.route.Type) != "":
		way.Route, way.Rule = routeText(*d.route), ruleText(d.rule, "")
	case d.route != nil && p.iif != "" && p.destination.Is4():
		way.Filter = setting("rp_filter", p.iif)
		way.ReversePath = p.filtered(way.Filter)
	}
	return way
}

// filtered reports whether a reverse path filter refuses the packet (__fib_validate_source of net/ipv4/fib_frontend.c).
// Its error was EXDEV until Linux 6.13, which uses the same error for other reasons too.
func (p packet) filtered(filter int) bool {
	if filter == 0 || !p.source.IsValid() {
		return false
	}
	back, err := netlink.RouteGetWithOptions(p.source.AsSlice(), &netlink.RouteGetOptions{Mark: p.mark})
	if err != nil {
		return true
	}
	link, err := netlink.LinkByName(p.iif)
	return err == nil && filter == 1 && back[0].LinkIndex != link.Attrs().Index
}

// refusal returns ip's word for a rule without a table, by its error (fib4_rule_action of net/ipv4/fib_rules.c): the
// library does not distinguish them.
func refusal(errno unix.Errno) string {
	return map[unix.Errno]string{
		unix.ENETUNREACH: "unreachable", unix.EACCES: "prohibit", unix.EINVAL: "blackhole",
		unix.EHOSTUNREACH: "unreachable",
	}[errno]
}

// setting returns the value that applies to an interface: the higher one of its own and the value of all
// (ip-sysctl.rst, rp_filter and arp_ignore).
func setting(key, iface string) int {
	highest := 0
	for _, name := range []string{"all", iface} {
		text, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + name + "/" + key)
		if err != nil {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			highest = max(highest, n)
		}
	}
	return highest
}
