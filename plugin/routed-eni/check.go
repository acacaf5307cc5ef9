package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// cmdCheck compares the record of ADD with the current state, and reports the first thing that is missing or different.
// SPEC.md, CHECK: a change that a later plugin in the chain may make is no error, such as another MAC of the pod's end
// that is also in prevResult.
func cmdCheck(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	prev, err := conf.PrevResult()
	if err != nil {
		return chain.BadConfig("%w", err)
	}
	if prev == nil {
		return chain.BadConfig("prevResult is missing: CHECK compares with the result of ADD")
	}
	host, err := kernel.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	pod, err := verb.OpenPod(host, args.Netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	e, err := verb.Load(pluginName, conf.Attachment(args), func(s *store, e entry) error {
		newer, err := hasNewerOwner(s, e)
		if newer {
			err = fmt.Errorf("address %s belongs to a newer attachment", e.State.Address)
		}
		return err
	})
	if err != nil {
		return err
	}
	c := &checker{host: host, pod: pod, prev: prev, conf: conf, netns: args.Netns, entry: *e}
	return c.run()
}

type checker struct {
	host, pod *kernel.Namespace
	prev      *current.Result
	conf      *config
	netns     string
	entry     entry

	hostLink, podLink netlink.Link
}

func (c *checker) run() error {
	for _, check := range []func() error{
		c.checkHostLink, c.checkHostSysctls, c.checkPodLink, c.checkAddresses, c.checkPodRoutes, c.checkPodRule,
		c.checkNeighbour, c.checkHostRoute, c.checkHostRules, c.checkDaemon,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkHostLink() (err error) {
	want := c.entry.State.Veth
	c.hostLink, err = c.host.LinkByName(want.Host)
	switch {
	case kernel.IsNotFound(err):
		return fmt.Errorf("link %s is missing", want.Host)
	case err != nil:
		return fmt.Errorf("link %s: %w", want.Host, err)
	case !kernel.IsUp(c.hostLink):
		return fmt.Errorf("link %s is down", want.Host)
	case !hasMAC(c.hostLink, want.HostMAC):
		return fmt.Errorf("link %s: want MAC %s, got %s", want.Host, want.HostMAC, c.hostLink.Attrs().HardwareAddr)
	case c.hostLink.Attrs().MTU != want.MTU:
		return fmt.Errorf("link %s: want mtu %d, got %d", want.Host, want.MTU, c.hostLink.Attrs().MTU)
	}
	return nil
}

func (c *checker) checkHostSysctls() error {
	state := c.entry.State
	if err := c.host.CheckSysctls(state.Veth.Host, state.hostSysctls()...); err != nil {
		return err
	}
	if !state.isIPv6() {
		return nil
	}
	has, err := c.host.HasAddress(c.hostLink, state.gateway())
	if err == nil && !has {
		err = fmt.Errorf("link %s: address %s is missing, by which the node asks for the pod", state.Veth.Host,
			state.gateway())
	}
	return err
}

// checkPodLink accepts a smaller MTU as set by a later plugin: tuning sets one without naming it in its result.
func (c *checker) checkPodLink() (err error) {
	want := c.entry.State.Veth
	mac, listed := want.PodMAC, false
	for _, link := range c.prev.Interfaces {
		if link.Name == want.Pod && link.Sandbox == c.netns {
			mac, listed = cmp.Or(link.Mac, mac), true
		}
	}
	if !listed {
		return fmt.Errorf("prevResult: link %s with sandbox %s is missing", want.Pod, c.netns)
	}
	c.podLink, err = c.pod.LinkByName(want.Pod)
	switch {
	case kernel.IsNotFound(err):
		return fmt.Errorf("link %s of the pod is missing", want.Pod)
	case err != nil:
		return fmt.Errorf("link %s of the pod: %w", want.Pod, err)
	case !kernel.IsUp(c.podLink):
		return fmt.Errorf("link %s of the pod is down", want.Pod)
	case !hasMAC(c.podLink, mac):
		return fmt.Errorf("link %s of the pod: want MAC %s, got %s", want.Pod, mac, c.podLink.Attrs().HardwareAddr)
	case c.podLink.Attrs().MTU > want.MTU:
		return fmt.Errorf("link %s of the pod: want mtu %d or less, got %d", want.Pod, want.MTU, c.podLink.Attrs().MTU)
	}
	on, err := c.pod.IsParent(c.podLink, c.hostLink.Attrs().Index, c.host)
	if err == nil && !on {
		err = fmt.Errorf("link %s of the pod is not the other end of %s", want.Pod, want.Host)
	}
	return err
}

// checkAddresses reports addresses of prevResult that no link has, including those of later plugins.
func (c *checker) checkAddresses() error {
	given := addressesOn(c.prev, c.entry.IfName)
	if !slices.Contains(given, c.entry.State.Address) {
		return fmt.Errorf("prevResult: want address %s on link %s, got %v", c.entry.State.Address, c.entry.IfName,
			given)
	}
	for _, ip := range given {
		has, err := c.pod.HasAddress(c.podLink, ip)
		if err != nil {
			return err
		}
		if !has {
			return fmt.Errorf("address %s is not on link %s of the pod", ip, c.entry.IfName)
		}
	}
	return nil
}

// checkPodRoutes accepts a route in any table (sbr moves them). A route that the result no longer lists may be missing.
// CHECK never sees routes of results before 0.3.0.
func (c *checker) checkPodRoutes() error {
	listed, err := c.pod.AllRoutes()
	if err != nil {
		return err
	}
	state := c.entry.State
	single := netip.PrefixFrom(state.gateway(), state.gateway().BitLen())
	for _, want := range []struct {
		dst netip.Prefix
		via netip.Addr
	}{{single, netip.Addr{}}, {netip.PrefixFrom(unspecified(state), 0), state.gateway()}} {
		if !lists(c.prev.Routes, want.dst) {
			continue
		}
		found := slices.ContainsFunc(listed, func(r netlink.Route) bool {
			dst, ok := kernel.Destination(r)
			via, _ := netipx.FromStdIP(r.Gw)
			return ok && dst == want.dst && via == want.via && r.LinkIndex == c.podLink.Attrs().Index &&
				r.Type == unix.RTN_UNICAST
		})
		if !found {
			return fmt.Errorf("route to %s on link %s of the pod is missing", want.dst, state.Veth.Pod)
		}
	}
	return nil
}

func unspecified(a attachment) netip.Addr {
	if a.isIPv6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func lists(routes []*types.Route, dst netip.Prefix) bool {
	return slices.ContainsFunc(routes, func(r *types.Route) bool {
		listed, ok := netipx.FromStdIPNet(&r.Dst)
		return ok && listed == dst
	})
}

// checkPodRule looks for the rule of an interface that has not the preferred routes, and for the default route of its
// table.
func (c *checker) checkPodRule() error {
	state := c.entry.State
	if state.PodTable == 0 {
		return nil
	}
	rules, err := c.pod.Rules()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(rules, state.podRule().Matches) {
		return fmt.Errorf("rule %s of the pod is missing", state.podRule())
	}
	routes, err := c.pod.AllRoutes()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(routes, func(r netlink.Route) bool {
		dst, ok := kernel.Destination(r)
		return ok && dst.Bits() == 0 && r.Table == state.PodTable && r.LinkIndex == c.podLink.Attrs().Index
	}) {
		return fmt.Errorf("default route in table %d of the pod is missing", state.PodTable)
	}
	return nil
}

func (c *checker) checkNeighbour() error {
	state := c.entry.State
	got, err := c.pod.Neighbour(c.podLink.Attrs().Index, state.gateway())
	switch {
	case err != nil:
		return err
	case got == nil:
		return fmt.Errorf("neighbour %s on link %s of the pod is missing", state.gateway(), state.Veth.Pod)
	case got.String() != c.hostLink.Attrs().HardwareAddr.String():
		return fmt.Errorf("neighbour %s on link %s of the pod: want %s, that of %s, got %s",
			state.gateway(), state.Veth.Pod, c.hostLink.Attrs().HardwareAddr, state.Veth.Host, got)
	}
	return nil
}

// checkHostRoute asks the kernel for the route that it uses, and lists the routes only to say what is wrong with it.
func (c *checker) checkHostRoute() error {
	state := c.entry.State
	want := state.hostRoute(c.hostLink.Attrs().Index)
	used, err := c.host.RouteTo(state.Address, 0)
	if err != nil || used != nil && used.Table == mainTable && want.Matches(*used) {
		return err
	}
	listed, err := c.host.MainRoutes()
	if err != nil {
		return err
	}
	found := false
	for _, r := range listed {
		switch {
		case !isTo(r, state.Address):
		case r.LinkIndex != want.Link:
			return fmt.Errorf("route to %s: want it on %s alone, got another on the link with index %d", state.Address,
				state.Veth.Host, r.LinkIndex)
		case want.Matches(r):
			found = true
		}
	}
	if !found {
		return fmt.Errorf("route to %s on %s is missing", state.Address, state.Veth.Host)
	}
	return nil
}

func (c *checker) checkHostRules() error {
	listed, err := c.host.RulesOf(c.entry.State.Address)
	if err != nil {
		return err
	}
	want := c.entry.State.hostRules()
	for _, r := range want {
		if !slices.Contains(listed, r) {
			return fmt.Errorf("rule %s is missing", r)
		}
	}
	for _, r := range listed {
		if isPodRule(r, c.entry.State.Address) && !slices.Contains(want, r) {
			return fmt.Errorf("rule %d for %s leads to table %d, which is not that of its ENI", r.Priority,
				c.entry.State.Address, r.Table)
		}
	}
	return nil
}

// checkDaemon asks ipamd for the address that the attachment has.
func (c *checker) checkDaemon() error {
	d, err := dial(c.conf.Socket)
	if err != nil {
		return err
	}
	defer d.close()
	held, err := d.assigned(c.entry.Attachment)
	if err != nil {
		return err
	}
	state := c.entry.State
	switch want := (allocation{Address: state.Address, Table: state.Table}); {
	case held == want:
		return nil
	case !held.Address.IsValid():
		return fmt.Errorf("ipamd at %s holds no address for this attachment, want %s", d.socket, want.Address)
	default:
		return fmt.Errorf("ipamd at %s holds another address for this attachment: want %s, got %s", d.socket, want,
			held)
	}
}
