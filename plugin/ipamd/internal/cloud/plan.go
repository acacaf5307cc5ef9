package cloud

import (
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// prefixBits is the length of the prefixes that EC2 delegates, and prefixSize how many addresses each has.
const (
	prefixBits = 28
	prefixSize = 16
)

// Limits are what a type of instance can have.
type Limits struct {
	ENIs  int // with the primary one, on network card 0
	Slots int // single addresses and prefixes per ENI, without the ENI's own address
}

// candidate is an ENI as a plan sees it.
type candidate struct {
	eni     ENI
	usage   datastore.ENIUsage
	pending int // slots that EC2 has filled and the metadata service does not name yet
}

// slots returns how many of an ENI's slots are filled.
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

// step is the next thing to ask EC2 for; the zero value is nothing. One at a time is enough: the answer changes what is
// needed next.
type step struct {
	Assign   int    // so many slots to ENI
	Attach   int    // a new ENI with so many slots
	Detach   bool   // ENI
	Unassign []slot // of ENI
	ENI      string
}

// slot is a single address or a prefix.
type slot struct {
	Addr   netip.Addr
	Prefix netip.Prefix
}

// plan has what steps depend on.
type plan struct {
	targets  Targets
	limits   Limits
	prefixes bool        // ask for prefixes, not for single addresses
	enis     []candidate // by device number
	coming   int         // addresses of ENIs that the metadata service does not name yet
	arriving int         // such ENIs
}

func (p plan) unit() int {
	if p.prefixes {
		return prefixSize
	}
	return 1
}

// next returns the next step. Addresses that cool count as free, as they will be soon.
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
			slots = p.limits.Slots // an ENI is always filled
		}
		return p.more(slots)
	case surplus > 0 && p.arriving == 0:
		return p.fewer(surplus, exact)
	}
	return step{}
}

// more fills ENIs before it attaches another.
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

// fewer detaches an ENI without pods, else gives single addresses or prefixes back, from the last ENI on.
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

// idleSlots returns slots with no more than n addresses in all, of which nobody has any.
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
