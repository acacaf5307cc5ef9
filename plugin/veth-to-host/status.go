package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/google/nftables"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/netfilter"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// cmdStatus returns code 50 and the reason if ADD cannot succeed, or if pods could not exchange packets, and 51 if
// those that are attached are cut off because the node is.
func cmdStatus(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	host, err := kernel.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	name, err := conf.hostInterfaceName(host)
	if err != nil {
		return chain.NotAvailable("%w", err)
	}
	n, err := readNode(host, name, false, true)
	if err != nil {
		return chain.NotAvailable("%w", err)
	}
	if err := verb.Recordable(pluginName, conf.Name); err != nil {
		return err
	}
	families, err := expectedFamilies(conf, n)
	if err != nil {
		return err
	}
	if err := n.up(); err != nil {
		return chain.Disconnected("%w", err)
	}
	if err := n.ready(families...); err != nil {
		return chain.NotAvailable("%w", err)
	}
	if conn, err := nftables.New(); err != nil {
		return chain.NotAvailable("nftables: %w", err)
	} else if _, err := newNodeTable(nil).exists(conn); err != nil {
		return chain.NotAvailable("%w", err)
	}
	if err := dropped(name); err != nil {
		return chain.NotAvailable("%w", err)
	}
	return nil
}

// expectedFamilies guesses the families of pods, since the ranges are in another plugin's configuration. A node with an
// IPv6 address that does not forward IPv6 is ready for pods with IPv4 addresses.
func expectedFamilies(conf *config, n *node) ([]bool, error) {
	expect := map[bool]bool{}
	for _, prefix := range conf.routes {
		expect[prefix.Addr().Is6()] = true
	}
	s, err := openStore(false)
	if err != nil {
		return nil, err
	}
	if s != nil {
		entries, _, err := s.List()
		if err := errors.Join(err, s.Close()); err != nil {
			return nil, err
		}
		for _, e := range entries {
			for _, ipv6 := range e.State.families() {
				expect[ipv6] = expect[ipv6] || e.Network == conf.Name
			}
		}
	}
	if !expect[false] && !expect[true] {
		expect[!n.hasFamily(false) && n.hasFamily(true)] = true
	}
	return slices.DeleteFunc([]bool{false, true}, func(ipv6 bool) bool { return !expect[ipv6] }), nil
}

// dropped returns an error that names chains of others which drop all packets from or to pods. A rule in one table
// cannot accept packets that a chain of another drops.
func dropped(hostInterface string) error {
	drops, err := netfilter.Forwarding{From: vethPrefix, To: []string{hostInterface}}.Drops()
	if err != nil || len(drops) == 0 {
		return err
	}
	return fmt.Errorf("forwarded packets of pods are dropped by %s: its owner must accept them, with "+
		"Docker by "+
		"iptables -I DOCKER-USER -i %[2]s+ -j ACCEPT and iptables -I DOCKER-USER -o %[2]s+ -j ACCEPT",
		strings.Join(drops, " and "), vethPrefix)
}
