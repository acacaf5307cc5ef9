package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Connection is a UDP connection between the ports of attacks that the kernel tracks.
type Connection struct {
	// From sent the first packet to To.
	From netip.AddrPort `json:"from"`
	To   netip.AddrPort `json:"to"`
	// Packets is the number of packets in both directions. It is 0 if the kernel did not count when it saw the first.
	Packets uint64 `json:"packets"`
}

// String returns the connection in words.
func (c Connection) String() string { return fmt.Sprintf("the connection %s to %s", c.From, c.To) }

const (
	trackingTable = "cnitest-tracking"
	// countPackets is the setting that makes the kernel count the packets of connections that begin.
	countPackets = "/proc/sys/net/netfilter/nf_conntrack_acct"
	// connectionLists is how often a list is asked for that was interrupted.
	connectionLists = 10
)

// tracking makes the kernel of a namespace track connections, as the rules of a service proxy do on each node, and
// count their packets.
type tracking struct {
	namespace
	counted []byte // what countPackets was before
}

// track begins in the network namespace at path netns, without connections between the ports of attacks.
func track(netns string) (t *tracking, err error) {
	n, err := openNamespace(netns)
	if err != nil {
		return nil, err
	}
	t = &tracking{namespace: n}
	err = n.do(func() error {
		if t.counted, err = os.ReadFile(countPackets); err != nil {
			return err
		}
		if err := os.WriteFile(countPackets, []byte("1"), 0); err != nil {
			return err
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: trackingTable})
		chain := conn.AddChain(&nftables.Chain{
			Table: table, Name: "prerouting", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting,
			Priority: nftables.ChainPriorityFilter,
		})
		conn.AddRule(&nftables.Rule{
			Table: table, Chain: chain, Exprs: []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}},
		})
		if err := conn.Flush(); err != nil {
			return err
		}
		for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
			if _, err := netlinksafe.ConntrackDeleteFilters(netlink.ConntrackTable, family, ofAttack{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("track connections: %w", errors.Join(err, t.stop()))
	}
	return t, nil
}

// stop leaves the namespace as it was, but for connections, which end by themselves.
func (t *tracking) stop() error {
	defer t.close()
	return t.do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: trackingTable})
		if err = conn.Flush(); errors.Is(err, unix.ENOENT) {
			err = nil
		}
		if t.counted != nil {
			err = errors.Join(err, os.WriteFile(countPackets, t.counted, 0))
		}
		return err
	})
}

// connections lists the connections between the ports of attacks.
func (t *tracking) connections() (all []Connection, err error) {
	flows, err := uninterrupted(connectionLists, func() (flows []*netlink.ConntrackFlow, err error) {
		err = t.do(func() (err error) {
			//nolint:forbidigo // it is repeated after an interruption, and netlinksafe has no such list
			flows, err = netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_UNSPEC)
			return err
		})
		return flows, err
	})
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	for _, flow := range flows {
		if (ofAttack{}).MatchConntrackFlow(flow) {
			all = append(all, Connection{
				From:    netip.AddrPortFrom(addrOf(flow.Forward.SrcIP), flow.Forward.SrcPort),
				To:      netip.AddrPortFrom(addrOf(flow.Forward.DstIP), flow.Forward.DstPort),
				Packets: flow.Forward.Packets + flow.Reverse.Packets,
			})
		}
	}
	return all, nil
}

// ofAttack matches UDP connections between the ports of attacks.
type ofAttack struct{}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (ofAttack) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	first := flow.Forward
	return first.Protocol == unix.IPPROTO_UDP && first.SrcPort == AttackPort && first.DstPort == AttackPort
}
