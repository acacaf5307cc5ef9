package datastore

import (
	"net/netip"
	"time"
)

// maxListed is the size of the largest prefix whose addresses are listed one by one. The addresses of larger ones, such
// as an IPv6 /80, are made when they are needed.
const maxListed = 256

type addressState int

const (
	stateFree addressState = iota
	stateAssigned
	stateResting
	stateGone // may still be in a queue, which skips it
)

// address is an address that pods can get, or could get until the cloud took it away.
type address struct {
	ip      netip.Addr
	eni     *eni
	held    *Assignment // while assigned
	state   addressState
	since   time.Time // time of the release, while resting
	removed bool      // the cloud does not list it any more
}

type eni struct {
	id       string
	device   int
	removed  bool
	closed   bool
	assigned int
	resting  int
	free     queue
	nFree    int
	vast     map[netip.Prefix]*vast
}

// vast is a prefix whose addresses are made when they are needed.
type vast struct {
	last netip.Addr
	made int64
}

func (e *eni) available() bool {
	return !e.removed && !e.closed && (e.nFree > 0 || len(e.vast) > 0)
}

func (e *eni) give(a *address) {
	a.state = stateFree
	e.free.push(a)
	e.nFree++
}

// take returns the address that has been free for the longest time, or a new address of a vast prefix, or nil if there
// is neither.
func (e *eni) take(taken map[netip.Addr]*address) *address {
	for a := e.free.pop(); a != nil; a = e.free.pop() {
		if a.state == stateFree {
			e.nFree--
			return a
		}
	}
	for prefix, v := range e.vast {
		for v.last, v.made = v.last.Next(), v.made+1; prefix.Contains(v.last); v.last, v.made = v.last.Next(),
			v.made+1 {
			if taken[v.last] == nil {
				return &address{ip: v.last, eni: e}
			}
		}
		delete(e.vast, prefix)
	}
	return nil
}

// unused returns how many addresses can be taken.
func (e *eni) unused() int64 {
	if e.removed || e.closed {
		return 0
	}
	n := int64(e.nFree)
	for prefix, v := range e.vast {
		n += size(prefix) - v.made
	}
	return n
}

// listed returns the addresses for pods one by one, and the prefixes that are too vast for that.
func (e ENI) listed() (addrs []netip.Addr, prefixes []netip.Prefix) {
	addrs = append(addrs, e.Addresses...)
	for _, prefix := range e.Prefixes {
		prefix = prefix.Masked()
		if size(prefix) > maxListed {
			prefixes = append(prefixes, prefix)
			continue
		}
		for ip := prefix.Addr(); prefix.Contains(ip); ip = ip.Next() {
			addrs = append(addrs, ip)
		}
	}
	return addrs, prefixes
}

// size returns the number of addresses of a prefix, at most 2^62.
func size(prefix netip.Prefix) int64 {
	return int64(1) << min(prefix.Addr().BitLen()-prefix.Bits(), 62)
}
