// Package event does to a node what happens to nodes in production: its uplink goes down, another program removes rules
// and routes that are not its own, somebody applies all sysctls.
//
// Everything happens in the network namespace of the calling thread, and each event restores what belongs to the node
// itself, as the node's network manager would: only what others added may be gone afterwards. It knows nothing of pods.
//
// Run its tests: sudo go test ./e2e/lab/event
package event

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/lab/debian"
)

// Config describes the node.
type Config struct {
	// Uplink is the name of its interface on the underlay.
	Uplink string `json:"uplink"`
	// Others are the addresses that replace those of the uplink when its addresses change; of each family the first
	// one.
	Others []netip.Addr `json:"others,omitempty"`
	// Events are those that will happen. Programs that they need start with Remember, and run until the node ends.
	Events []string `json:"events,omitempty"`
	// Programs is the root directory of Debian's programs (debian.Dir), on the node.
	Programs string `json:"programs,omitempty"`
}

// Node is a node that knows what belongs to it. It must not be used concurrently.
type Node struct {
	config    Config
	addresses []netlink.Addr
	routes    []netlink.Route
	undo      []func() error // what Undo has to do, the last one first
	networkd  *networkd      // nil unless it will restart
	bundle    *bundle        // nil unless its port will be replaced
	debian    map[string]*debian.Root
}

// Remember returns a node to which belongs what its uplink has now: the addresses, except those that the kernel makes,
// and the routes of the main table. It must be called before anybody else adds something.
func Remember(c Config) (*Node, error) {
	n := &Node{config: c, debian: map[string]*debian.Root{}}
	if err := n.remember(); err != nil {
		return nil, err
	}
	err := n.bundleUplink()
	if err == nil && slices.Contains(c.Events, NetworkdRestarts) {
		n.networkd, err = startNetworkd(n)
	}
	if err == nil {
		err = n.startServices()
	}
	if err == nil {
		err = n.remember()
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Close ends the programs that Remember started.
func (n *Node) Close() error {
	var errs []error
	if n.networkd != nil {
		errs = append(errs, n.networkd.stop())
	}
	for _, d := range n.debian {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// remember records what the uplink has.
func (n *Node) remember() error {
	link, err := n.uplink()
	if err != nil {
		return err
	}
	all, err := netlinksafe.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	n.addresses = slices.DeleteFunc(all, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() })
	if n.routes, err = foreignRoutes(link); err != nil {
		return err
	}
	n.routes = slices.DeleteFunc(n.routes, func(r netlink.Route) bool { return r.Table != unix.RT_TABLE_MAIN })
	return nil
}

// Happen makes an event happen, and returns when it is over. It may be called again.
func (n *Node) Happen(name string) error {
	do, ok := events()[name]
	if !ok {
		return fmt.Errorf("unknown event %q", name)
	}
	if err := do(n); err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	return nil
}

func events() map[string]func(*Node) error {
	all := map[string]func(*Node) error{
		UplinkFlaps:           (*Node).flap,
		AddressesChange:       (*Node).changeAddresses,
		RulesAndRoutesRemoved: (*Node).removeForeign,
		NetworkdRestarts:      (*Node).restartNetworkd,
		RulesetFlushed:        (*Node).flushRuleset,
		SysctlsApplied:        func(n *Node) error { return n.applySysctls("1") },
		SysctlsLoosened:       func(n *Node) error { return n.applySysctls("2") },
		StrictARP:             (*Node).setStrictARP,
		MACsSet:               (*Node).setMACs,
		IptablesFlushed:       (*Node).flushIptables,
		OtherAgentCleans:      (*Node).cleanAsAgent,
		BondPortReplaced:      (*Node).replacePort,
		BridgePortReplaced:    (*Node).replacePort,
	}
	for name := range services() {
		all[name] = serve(name)
	}
	return all
}

// Names returns the names of all events, sorted.
func Names() []string { return slices.Sorted(maps.Keys(events())) }

// Undo gives the node back the settings and addresses that it had before the events.
func (n *Node) Undo() error {
	var errs []error
	for _, undo := range slices.Backward(n.undo) {
		errs = append(errs, undo())
	}
	n.undo = nil
	return errors.Join(errs...)
}

// These are the events.
const (
	// UplinkFlaps sets the uplink down and up. The kernel drops the routes of the link and its IPv6 addresses.
	UplinkFlaps = "uplink-flaps"
	// AddressesChange replaces the addresses of the uplink by others of the same subnets, as a DHCP server may.
	AddressesChange = "uplink-addresses-change"
	// BondPortReplaced replaces the link through which the uplink sends, a bond. It is one since Remember.
	BondPortReplaced = "bond-port-replaced"
	// BridgePortReplaced does the same to an uplink that is a bridge.
	BridgePortReplaced = "bridge-port-replaced"
	// RulesAndRoutesRemoved removes what systemd-networkd removes when it starts: all policy rules but the kernel's, in
	// all tables the routes of the uplink but the kernel's and the node's own, and routes with an IPv4 address of the
	// uplink as their source.
	RulesAndRoutesRemoved = "rules-and-routes-removed"
	// NetworkdRestarts restarts a systemd-networkd that manages the uplink.
	NetworkdRestarts = "networkd-restarts"
	// RulesetFlushed is `nft flush ruleset`.
	RulesetFlushed = "ruleset-flushed"
	// SysctlsApplied is `sysctl --system` with a file that has values for all interfaces (net.ipv4.conf.*.rp_filter),
	// as distributions ship them.
	SysctlsApplied = "sysctls-applied"
	// SysctlsLoosened is the same with the values of newer distributions, whose filters are loose.
	SysctlsLoosened = "sysctls-loosened"
	// StrictARP sets what kube-proxy sets with ipvs.strictARP.
	StrictARP = "strict-arp"
	// MACsSet gives new MACs to links whose MAC is random, as udev does with MACAddressPolicy=persistent.
	MACsSet = "macs-set"
	// IptablesFlushed is `iptables -F` and `ip6tables -F` for each table.
	IptablesFlushed = "iptables-flushed"
	// OtherAgentCleans is the agent of another plugin that removes what it does not know.
	OtherAgentCleans = "other-agent-cleans"
	// UdevTriggered is `udevadm trigger` with a real udev, which gave links other MACs when they appeared.
	UdevTriggered = "udev-triggered"
	// NetworkManagerRestarts restarts a NetworkManager with Debian's configuration.
	NetworkManagerRestarts = "networkmanager-restarts"
	// FirewalldReloads is `firewall-cmd --reload` with a real firewalld.
	FirewalldReloads = "firewalld-reloads"
	// UFWReloads is `ufw reload` with a real ufw.
	UFWReloads = "ufw-reloads"
	// RulesetListed is `nft list ruleset`, as text and as JSON, with a real nft. It changes nothing.
	RulesetListed = "ruleset-listed"
)

// uplink returns the link.
func (n *Node) uplink() (netlink.Link, error) {
	link, err := netlinksafe.LinkByName(n.config.Uplink)
	if err != nil {
		return nil, fmt.Errorf("uplink %s: %w", n.config.Uplink, err)
	}
	return link, nil
}

// foreignRoutes returns the routes of a link in all tables that the kernel did not make.
func foreignRoutes(link netlink.Link) ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_UNSPEC}
		list, err := netlinksafe.RouteListFiltered(family, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return slices.DeleteFunc(all, func(r netlink.Route) bool { return r.Protocol == unix.RTPROT_KERNEL }), nil
}
