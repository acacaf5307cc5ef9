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

// Question is a packet about which a kernel is asked where it would send it.
type Question struct {
	Destination string `json:"destination"`
	// Source is the packet's; empty leaves the choice to the kernel, as a socket without an address does.
	Source string `json:"source,omitempty"`
	// Interface is the name of the one by which the packet came in; empty for a packet of this host's own.
	Interface string `json:"interface,omitempty"`
	Mark      uint32 `json:"mark,omitempty"`
}

// Way says where a kernel sends a packet, or why it does not.
type Way struct {
	// Device, Gateway and Source are of the kernel's answer. The device is "lo" for what is its own.
	Device  string `json:"device,omitempty"`
	Gateway string `json:"gateway,omitempty"`
	Source  string `json:"source,omitempty"`
	// Local tells whether the packet is for this host itself.
	Local bool `json:"local,omitempty"`
	// Refusal is the kernel's error where it sends the packet nowhere: "no route to host".
	Refusal string `json:"refusal,omitempty"`
	// ReversePath tells whether it refuses the packet since its answer would leave by another interface (rp_filter);
	// Filter is the value of that setting which holds on Interface.
	ReversePath bool `json:"reversePath,omitempty"`
	Filter      int  `json:"filter,omitempty"`
	// MTU is the MTU of the way if the kernel has learned of a smaller one than its device has, or if a route has one;
	// else 0.
	MTU int `json:"mtu,omitempty"`
	// IgnoresARP is the value of arp_ignore which holds on Interface: from 1 on the host may leave questions for its
	// MAC unanswered.
	IgnoresARP int `json:"ignoresARP,omitempty"`
	// Route and Rule are what decided, in ip's words: "192.168.1.2 dev eno1 table main", "1000: from all to 192.168.1.2
	// blackhole". Rule is empty where it is one of the three that every namespace has, Route where a rule decided
	// alone, or nothing did; both where what the tables say does not agree with what the kernel answered.
	Route string `json:"route,omitempty"`
	Rule  string `json:"rule,omitempty"`
}

// Lookup asks the kernel, in the namespace at path netns, where it would send a packet (RTM_GETROUTE, as `ip route
// get`), and looks up in its tables what decides that. That it would send it nowhere is an answer and no error.
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
	// A route with several hops has its devices there.
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

// filtered reports whether a reverse path filter is what refuses the packet (__fib_validate_source of
// net/ipv4/fib_frontend.c). Its error was EXDEV until Linux 6.13 made one of it and of others.
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

// refusal returns ip's word for a rule without a table, by the error that it makes (fib4_rule_action of
// net/ipv4/fib_rules.c): the library does not tell them apart.
func refusal(errno unix.Errno) string {
	return map[unix.Errno]string{
		unix.ENETUNREACH: "unreachable", unix.EACCES: "prohibit", unix.EINVAL: "blackhole",
		unix.EHOSTUNREACH: "unreachable",
	}[errno]
}

// setting returns the value of one that holds on an interface: the higher one of its own and that of all
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
