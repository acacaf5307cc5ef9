package main

import (
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// masquerades returns plugins that implement the key ipMasq for IPv4 themselves, without any program: one without a
// fault, and others.
func masquerades() map[string]defect {
	return map[string]defect{
		"masquerades":           masquerading(beyond),
		"masquerades-inside":    masquerading(func(pod, _ netip.Prefix) []expr.Any { return from(pod) }),
		"masquerades-nothing":   masquerading(nil),
		"masquerades-and-drops": masquerading(nil, &expr.Verdict{Kind: expr.VerdictDrop}),
	}
}

// masquerading returns a plugin that masquerades what a function matches, or does something else with it. Without a
// function it matches all that the pod sends, and does only something else.
func masquerading(match func(pod, network netip.Prefix) []expr.Any, otherwise ...expr.Any) defect {
	return func(c *call, next plugin) answer {
		wanted := c.config["ipMasq"] == true
		c = c.edited(func(config map[string]any) { delete(config, "ipMasq") })
		a := next(c)
		if !wanted || a.status != 0 || c.verb != "ADD" && c.verb != "DEL" {
			return a
		}
		conn, err := nftables.New()
		if err != nil {
			return c.fail(types.ErrIOFailure, "%v", err)
		}
		table := conn.AddTable(&nftables.Table{
			Family: nftables.TableFamilyIPv4, Name: "masq-" + c.env["CNI_CONTAINERID"],
		})
		if c.verb == "DEL" {
			conn.DelTable(table)
		} else if err := addMasquerade(conn, table, a, match, otherwise); err != nil {
			return c.fail(types.ErrIOFailure, "%v", err)
		}
		if err := conn.Flush(); err != nil {
			return c.fail(types.ErrIOFailure, "%v", err)
		}
		return a
	}
}

func addMasquerade(conn *nftables.Conn, table *nftables.Table, a answer,
	match func(pod, network netip.Prefix) []expr.Any, otherwise []expr.Any,
) error {
	chain := &nftables.Chain{
		Table: table, Name: "masquerade", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource,
	}
	if otherwise != nil {
		chain.Type, chain.Hooknum = nftables.ChainTypeFilter, nftables.ChainHookForward
		chain.Priority = nftables.ChainPriorityFilter
	}
	conn.AddChain(chain)
	result, _ := a.result()
	for _, ip := range objects(result, "ips") {
		text, _ := ip["address"].(string)
		address, err := netip.ParsePrefix(text)
		if err != nil {
			return err
		}
		pod := netip.PrefixFrom(address.Addr(), address.Addr().BitLen())
		switch {
		case match != nil:
			exprs := append(match(pod, address.Masked()), &expr.Masq{})
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
		case otherwise != nil:
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(from(pod), otherwise...)})
		}
	}
	return nil
}

// from matches `ip saddr POD`.
func from(pod netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: pod.Addr().AsSlice()},
	}
}

// beyond matches `ip saddr POD ip daddr != NETWORK`.
func beyond(pod, network netip.Prefix) []expr.Any {
	mask := make([]byte, 4)
	for i := range network.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return append(from(pod),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: network.Addr().AsSlice()})
}
