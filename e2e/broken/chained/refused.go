package main

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
)

// What follows asks the kernel for what it does not do.

// queue makes a rule that hands packets to a program, and takes it away again.
func queue(*call) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "queue", Family: nftables.TableFamilyINet})
	rules := conn.AddChain(&nftables.Chain{Name: "queue", Table: table})
	conn.AddRule(&nftables.Rule{Table: table, Chain: rules, Exprs: []expr.Any{&expr.Counter{}, &expr.Queue{Num: 1}}})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("rule: %w", err)
	}
	conn.DelTable(table)
	return conn.Flush()
}

// removeNothing removes a link that there is not.
func removeNothing(*call) error {
	return netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "pigeon", Index: 99999}})
}
