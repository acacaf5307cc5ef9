package main

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
)

// The following functions make requests that the kernel refuses.

// queue makes a rule that passes packets to a program, and removes it again.
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

// missProgram looks for the shell where it is not.
func missProgram(*call) error {
	if err := os.Setenv("PATH", "/usr/local/sbin"); err != nil {
		return err
	}
	return exec.Command("sh", "-c", "true").Run()
}

// removeNothing removes a link that does not exist.
func removeNothing(*call) error {
	return netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "pigeon", Index: 99999}})
}
