package cloud

import (
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// prefixBits is the length of the prefixes that EC2 delegates, and prefixSize the number of addresses in each.
const (
	prefixBits = 28
	prefixSize = 16
)

// Limits are the limits of a type of instance.
type Limits struct {
	ENIs  int // including the primary one, on network card 0
	Slots int // single addresses and prefixes per ENI, not counting the ENI's own address
}

// candidate is the state of an ENI that a plan uses.
type candidate struct {
	eni     ENI
	usage   datastore.ENIUsage
	pending int // slots that EC2 has assigned and the metadata service does not list yet
}

// slots returns how many of an ENI's slots are used.
func (c candidate) slots() int {
	n := c.pending
	for _, ip := range c.eni.Secondary {
		if ip.Is4() {
			n++
		}
	}
	for _, prefix := range c.eni.Prefixes {
		if prefix.Addr().Is4() {
			n++
		}
	}
	return n
}

// step is the next request to EC2; the zero value means none. One step at a time suffices, since its answer changes
// what is needed next.
type step struct {
	Assign   int    // number of slots to assign to ENI
	Attach   int    // number of slots of a new ENI
	Detach   bool   // detach ENI
	Unassign []slot // slots to take from ENI
	ENI      string
}

// slot is a single address or a prefix.
type slot struct {
	Addr   netip.Addr
	Prefix netip.Prefix
}

// plan contains everything that the next step depends on.
type plan struct {
	targets  Targets
	limits   Limits
	prefixes bool        // request prefixes, not single addresses
	enis     []candidate // by device number
	coming   int         // addresses of ENIs that the metadata service does not list yet
	arriving int         // number of such ENIs
}

func (p plan) unit() int {
	if p.prefixes {
		return prefixSize
	}
	return 1
}

// next returns the next step. Cooling addresses count as free, since they soon will be.
func (p plan) next() step {
	free, total := p.coming, p.coming
	for _, c := range p.enis {
		soon := int(c.usage.Free+c.usage.Cooling) + c.pending*p.unit()
		free += soon
		total += soon + int(c.usage.Assigned)
	}
	full := p.limits.Slots * p.unit()
	var short, surplus int
	exact := p.targets.WarmIP > 0 || p.targets.MinimumIP > 0
	if exact {
		short = max(p.targets.WarmIP-free, p.targets.MinimumIP-total)
		surplus = min(free-p.targets.WarmIP, total-p.targets.MinimumIP)
	} else {
		short = p.targets.WarmENI*full - free
		surplus = -short
	}
	switch {
	case short > 0:
		slots := (short + p.unit() - 1) / p.unit()
		if !exact {
			slots = p.limits.Slots // all slots of an ENI are always filled
		}
		return p.more(slots)
	case surplus > 0 && p.arriving == 0:
		return p.fewer(surplus, exact)
	}
	return step{}
}

// more returns a step that fills an ENI, or if all are full one that attaches another.
func (p plan) more(slots int) step {
	for _, c := range p.enis {
		if room := p.limits.Slots - c.slots(); room > 0 {
			return step{ENI: c.eni.ID, Assign: min(slots, room)}
		}
	}
	if len(p.enis)+p.arriving < p.limits.ENIs {
		return step{Attach: min(slots, p.limits.Slots)}
	}
	return step{}
}

// fewer returns a step that detaches an ENI without pods, or if there is none one that returns single addresses or
// prefixes, beginning with the last ENI.
func (p plan) fewer(surplus int, exact bool) step {
	for _, c := range slices.Backward(p.enis) {
		idle := c.usage.Assigned == 0 && c.usage.Cooling == 0 && c.pending == 0
		if !c.eni.Primary() && idle && int(c.usage.Free) <= surplus {
			return step{ENI: c.eni.ID, Detach: true}
		}
	}
	for _, c := range slices.Backward(p.enis) {
		if slots := c.idleSlots(surplus); exact && len(slots) > 0 {
			return step{ENI: c.eni.ID, Unassign: slots}
		}
	}
	return step{}
}

// idleSlots returns unused slots that have at most n addresses together.
func (c candidate) idleSlots(n int) []slot {
	unused := map[netip.Addr]bool{}
	for _, ip := range c.usage.Unused {
		unused[ip] = true
	}
	var slots []slot
	for _, ip := range slices.Backward(c.eni.Secondary) {
		if unused[ip] && n > 0 {
			slots = append(slots, slot{Addr: ip})
			n--
		}
	}
	for _, prefix := range slices.Backward(c.eni.Prefixes) {
		if prefix.Addr().Is4() && prefix.Bits() == prefixBits && n >= prefixSize &&
			!slices.ContainsFunc(addresses(prefix), func(ip netip.Addr) bool {
				return !unused[ip]
			}) {
			slots = append(slots, slot{Prefix: prefix})
			n -= prefixSize
		}
	}
	return slots
}

func addresses(prefix netip.Prefix) []netip.Addr {
	var all []netip.Addr
	for ip := prefix.Masked().Addr(); prefix.Contains(ip); ip = ip.Next() {
		all = append(all, ip)
	}
	return all
}
