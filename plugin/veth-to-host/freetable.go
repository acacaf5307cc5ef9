package main

import (
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/record"
)

// freeTable returns the number of a routing table that neither a record nor the kernel uses: the first one, or one that
// follows a number in use. The caller holds the lock.
func (a *addition) freeTable(s *store, of record.Attachment) (int, error) {
	for start := a.conf.tableStart(); ; {
		table, err := firstFree(start, func(table int) (bool, error) {
			if table == mainTable || table == unix.RT_TABLE_DEFAULT || table == unix.RT_TABLE_LOCAL {
				return true, nil
			}
			return s.Held(tableKey(table), of)
		})
		if err != nil {
			return 0, err
		}
		others, err := a.usedByOthers(s, table, of)
		if err != nil || !others {
			return table, err
		}
		start = table + 1
	}
}

// firstFree returns a free number, start or higher. Its time grows with the number of digits of the numbers in use, not
// with how many there are: it doubles its step until it finds a free number, and then searches between the last two for
// a free number that follows one in use.
func firstFree(start int, taken func(int) (bool, error)) (int, error) {
	last, step := start-1, 1 // last is in use, or below start
	for {
		is, err := taken(last + step)
		if err != nil {
			return 0, err
		}
		if !is {
			break
		}
		last, step = last+step, step*2
	}
	for free := last + step; ; {
		if free == last+1 {
			return free, nil
		}
		middle := (last + free) / 2
		is, err := taken(middle)
		if err != nil {
			return 0, err
		}
		if is {
			last = middle
		} else {
			free = middle
		}
	}
}

// The kernel can only list all rules, so the rules of others are read once per this number of tables.
const tablesPerLook = 64

// usedByOthers reports whether the kernel has routes in a table that no record names, or rules that look it up.
func (a *addition) usedByOthers(s *store, table int, of record.Attachment) (bool, error) {
	used, err := a.Host.HasRoutes(table)
	if err != nil || used {
		return used, err
	}
	other, err := anyOther(s, of)
	if err != nil || other != nil && table%tablesPerLook != 0 {
		return false, err
	}
	rules, err := a.Host.Rules()
	if err != nil {
		return false, err
	}
	// These tables have no rules of this plugin: a record would name them.
	return slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Table == table }), nil
}
