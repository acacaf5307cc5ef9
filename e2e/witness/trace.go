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
	// traceTable is the table that marks packets for tracing, for as long as a Trace runs.
	traceTable = "cnitest-trace"
	// tracePriority is before all that decides: raw chains are at -300, defragmentation at -400 (enum
	// nf_ip_hook_priorities).
	tracePriority = -500
	// traceGroup is NFNLGRP_NFTRACE.
	traceGroup = 9
	// traceBuffer is the number of bytes that the kernel may queue while the reader is not running.
	traceBuffer = 8 << 20
	// traceQuiet is the time without events after which a Trace is complete.
	traceQuiet = 20 * time.Millisecond
	// maxVerdicts bounds the verdicts that are kept, each for all packets of its addresses.
	maxVerdicts = 200
	// ownedTable is NFT_TABLE_F_OWNER, of Linux 5.12: the table goes with the socket that made it, however its process
	// ends.
	ownedTable = 0x2
)

// Action says how netfilter treated a packet.
type Action string

// The actions that a Trace tells of.
const (
	Dropped    Action = "dropped"
	Translated Action = "translated"
)

// Verdict is what a rule, or the policy of a chain, did to a packet.
type Verdict struct {
	Action Action `json:"action"`
	// Chain is the chain as nft names it: "ip filter FORWARD".
	Chain string `json:"chain"`
	// Rule is the rule in nft's words; empty for the policy of the chain.
	Rule string `json:"rule,omitempty"`
	// Source and Destination are the packet's as it entered the chain.
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// Mark is the packet's.
	Mark uint32 `json:"mark,omitempty"`
	// Times counts how often it happened to packets of these addresses.
	Times int `json:"times"`
}

// Trace is a running trace of the packets from and to some addresses through the netfilter of a namespace. It sees
// nf_tables, and so what the iptables of nowadays writes (iptables-nft); the tables of iptables-legacy cannot be traced
// this way.
type Trace struct {
	netns    string
	rules    *nftables.Conn
	events   *netlink.Conn
	done     chan struct{}
	packets  map[uint32]traced
	verdicts []verdict
}

// StartTrace begins to trace, in the namespace at path netns, packets that have one of the addresses as their source or
// destination. The caller calls Stop. Until then a table of the name cnitest-trace exists there. It needs Linux 5.12
// and its errors say what the kernel lacks. Only one can run in a namespace at a time.
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
	// In a user namespace the kernel grants net.core.rmem_max only.
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
// It is called once.
func (t *Trace) Stop() ([]Verdict, error) {
	// Nothing is marked any more, so that what is left in the queue has an end.
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

// translates reports whether a rule in nft's or iptables' words gives packets another address.
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
			continue // some events are lost, what comes after them is not
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
