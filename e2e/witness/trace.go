package witness

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/snapshot"
)

const (
	// traceTable is the table that marks packets for tracing while a Trace runs.
	traceTable = "cnitest-trace"
	// tracePriority comes before everything that decides about packets: raw chains are at -300, defragmentation at -400
	// (enum nf_ip_hook_priorities).
	tracePriority = -500
	// traceGroup is NFNLGRP_NFTRACE.
	traceGroup = 9
	// traceBuffer is the number of bytes that the kernel may queue while the reader is not running.
	traceBuffer = 8 << 20
	// traceQuiet is the time without events after which a Trace is complete.
	traceQuiet = 20 * time.Millisecond
	// maxVerdicts limits the verdicts that are kept, each for all packets with the same addresses.
	maxVerdicts = 200
	// ownedTable is NFT_TABLE_F_OWNER, since Linux 5.12: the table is removed with the socket that made it, however the
	// process ends.
	ownedTable = 0x2
)

// Action is what netfilter did with a packet.
type Action string

// The actions that a Trace reports.
const (
	Dropped    Action = "dropped"
	Translated Action = "translated"
)

// Verdict describes what a rule, or the policy of a chain, did to a packet.
type Verdict struct {
	Action Action `json:"action"`
	// Chain is the chain as nft names it: "ip filter FORWARD".
	Chain string `json:"chain"`
	// Rule is the rule in nft's words; empty for the policy of the chain.
	Rule string `json:"rule,omitempty"`
	// Source and Destination are the packet's addresses when it entered the chain.
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// Mark is the packet's mark.
	Mark uint32 `json:"mark,omitempty"`
	// Times counts how often it happened to packets with these addresses.
	Times int `json:"times"`
}

// Trace is a running trace of the packets from and to some addresses through the netfilter of a namespace. It sees
// nf_tables, including what today's iptables writes (iptables-nft); the tables of iptables-legacy cannot be traced this
// way.
type Trace struct {
	netns    string
	rules    *nftables.Conn
	events   *netlink.Conn
	done     chan struct{}
	packets  map[uint32]traced
	verdicts []verdict
}

// StartTrace begins to trace, in the namespace at path netns, packets whose source or destination is one of the
// addresses. The caller calls Stop. Until then a table named cnitest-trace exists in the namespace. It needs Linux
// 5.12; errors say what the kernel lacks. Only one trace can run in a namespace at a time.
func StartTrace(netns string, addresses []netip.Addr) (*Trace, error) {
	t := &Trace{netns: netns, done: make(chan struct{}), packets: map[uint32]traced{}}
	if err := within(netns, func() error { return t.open(addresses) }); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	go t.record()
	return t, nil
}

func (t *Trace) open(addresses []netip.Addr) (err error) {
	if t.events, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
		return err
	}
	// In a user namespace the kernel grants only net.core.rmem_max.
	_ = t.events.SetReadBuffer(traceBuffer)
	if err = t.events.JoinGroup(traceGroup); err == nil {
		t.rules, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(makeOwnedTable))
	}
	if err == nil {
		err = t.mark(addresses)
	}
	if err != nil {
		t.close()
	}
	return err
}

// Stop ends the trace and returns what was dropped and translated, each once, in the order in which it first happened.
// It must be called exactly once.
func (t *Trace) Stop() ([]Verdict, error) {
	// No more packets are marked, so that reading the queue ends.
	_ = t.rules.CloseLasting()
	_ = t.events.SetReadDeadline(time.Now().Add(traceQuiet))
	<-t.done
	_ = t.events.Close()
	var verdicts []Verdict
	err := within(t.netns, func() error {
		texts := map[rule]string{}
		for _, v := range t.verdicts {
			text, known := texts[v.rule]
			if !known && v.handle != 0 {
				var err error
				if text, err = snapshot.NftRule(v.family, v.table, v.chain, v.handle); err != nil {
					return err
				}
				texts[v.rule] = text
			}
			v.Rule = text
			if v.Action == Dropped || translates(text) {
				verdicts = append(verdicts, v.Verdict)
			}
		}
		return nil
	})
	return verdicts, err
}

func (t *Trace) close() {
	if t.rules != nil {
		_ = t.rules.CloseLasting()
	}
	_ = t.events.Close()
}

// translates reports whether a rule, in the words of nft or iptables, changes the address of packets.
func translates(rule string) bool {
	for _, word := range []string{
		"masquerade", "snat", "dnat", "redirect", "xt MASQUERADE", "xt SNAT", "xt DNAT", "xt REDIRECT", "xt NETMAP",
	} {
		if strings.Contains(" "+rule+" ", " "+word+" ") {
			return true
		}
	}
	return false
}

func (t *Trace) record() {
	defer close(t.done)
	for {
		messages, err := t.events.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			continue // some events were lost, later ones are not
		}
		if err != nil {
			return
		}
		for _, m := range messages {
			if m.Header.Type == netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE) &&
				len(m.Data) >= 4 {
				t.note(m.Data[0], m.Data[4:])
			}
		}
	}
}
