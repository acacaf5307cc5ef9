package cloud

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// machine carries out steps at once.
type machine struct {
	plan
	pods int
	next int
}

func newMachine(targets Targets, limits Limits, prefixes bool) *machine {
	m := &machine{plan: plan{targets: targets, limits: limits, prefixes: prefixes}}
	m.enis = []candidate{{eni: ENI{ID: "eni-0"}}}
	m.settle(0)
	return m
}

// settle sets the number of pods, limited by the addresses, and takes steps until there are none left.
func (m *machine) settle(pods int) {
	m.pods = pods
	for range 1000 {
		m.place()
		s := m.plan.next()
		i := slices.IndexFunc(m.enis, func(c candidate) bool { return c.eni.ID == s.ENI })
		switch {
		case s.Assign > 0:
			m.fill(&m.enis[i], s.Assign)
		case s.Attach > 0:
			m.next++
			c := candidate{eni: ENI{ID: fmt.Sprint("eni-new-", m.next), Device: m.next}}
			m.fill(&c, s.Attach)
			m.enis = append(m.enis, c)
		case s.Detach:
			m.enis = slices.Delete(m.enis, i, i+1)
		case len(s.Unassign) > 0:
			c := &m.enis[i]
			c.eni.Secondary = slices.DeleteFunc(c.eni.Secondary, func(ip netip.Addr) bool {
				return slices.Contains(s.Unassign, slot{Addr: ip})
			})
			c.eni.Prefixes = slices.DeleteFunc(c.eni.Prefixes, func(p netip.Prefix) bool {
				return slices.Contains(s.Unassign, slot{Prefix: p})
			})
		default:
			return
		}
	}
}

func (m *machine) fill(c *candidate, slots int) {
	for range slots {
		m.next++
		first := netip.AddrFrom4([4]byte{10, byte(m.next >> 4), byte(m.next << 4), 0})
		if m.prefixes {
			c.eni.Prefixes = append(c.eni.Prefixes, netip.PrefixFrom(first, prefixBits))
		} else {
			c.eni.Secondary = append(c.eni.Secondary, first)
		}
	}
}

// place gives each pod an address, beginning with those of the first ENIs.
func (m *machine) place() {
	left := m.pods
	for i := range m.enis {
		c := &m.enis[i]
		all := slices.Clone(c.eni.Secondary)
		for _, prefix := range c.eni.Prefixes {
			all = append(all, addresses(prefix)...)
		}
		n := min(left, len(all))
		left -= n
		c.usage = datastore.ENIUsage{ID: c.eni.ID, Assigned: int64(n), Free: int64(len(all) - n), Unused: all[n:]}
	}
}

func (m *machine) slots() []int {
	var all []int
	for _, c := range m.enis {
		all = append(all, c.slots())
	}
	return all
}

// The cases are those of amazon-vpc-cni-k8s' documentation of the three targets.
func TestPlan(t *testing.T) {
	small, large := Limits{ENIs: 3, Slots: 3}, Limits{ENIs: 15, Slots: 49}
	for _, tt := range []struct {
		limits   Limits
		targets  Targets
		prefixes bool
		pods     int
		want     []int // slots of each ENI
	}{
		{small, Targets{WarmENI: 1}, false, 0, []int{3}},
		{small, Targets{WarmENI: 1}, false, 5, []int{3, 3, 3}},
		{small, Targets{WarmENI: 1}, false, 9, []int{3, 3, 3}},
		{small, Targets{WarmIP: 1, MinimumIP: 1, WarmENI: 1}, false, 0, []int{1}},
		{small, Targets{WarmIP: 1, MinimumIP: 1}, false, 5, []int{3, 3}},
		{small, Targets{WarmIP: 1, MinimumIP: 1}, false, 9, []int{3, 3, 3}},
		{small, Targets{WarmIP: 2, MinimumIP: 5}, false, 0, []int{3, 2}},
		{small, Targets{WarmIP: 2, MinimumIP: 5}, false, 5, []int{3, 3, 1}},
		{small, Targets{WarmIP: 2, MinimumIP: 5}, false, 9, []int{3, 3, 3}},
		{large, Targets{WarmENI: 1}, false, 0, []int{49}},
		{large, Targets{WarmENI: 1}, false, 3, []int{49, 49}},
		{large, Targets{WarmENI: 1}, false, 95, []int{49, 49, 49}},
		{large, Targets{WarmIP: 5, MinimumIP: 10}, false, 0, []int{10}},
		{large, Targets{WarmIP: 5, MinimumIP: 10}, false, 7, []int{12}},
		{large, Targets{WarmIP: 5, MinimumIP: 10}, false, 15, []int{20}},
		{large, Targets{WarmIP: 5, MinimumIP: 10}, false, 45, []int{49, 1}},
		{small, Targets{}, false, 3, []int{0}},
		{small, Targets{MinimumIP: 2}, false, 2, []int{2}},
		{small, Targets{WarmIP: 16}, true, 0, []int{1}},
		{small, Targets{WarmIP: 16}, true, 1, []int{2}},
		{small, Targets{WarmIP: 16}, true, 40, []int{3, 1}},
		{small, Targets{WarmENI: 1}, true, 1, []int{3, 3}},
	} {
		t.Run(fmt.Sprintf("%+v %+v prefixes %v pods %d", tt.limits, tt.targets, tt.prefixes, tt.pods),
			func(t *testing.T) {
				m := newMachine(tt.targets, tt.limits, tt.prefixes)
				m.settle(tt.pods)
				if diff := cmp.Diff(tt.want, m.slots()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				// After more pods have come and gone, the result is the same.
				m.settle(tt.limits.ENIs * tt.limits.Slots)
				m.settle(tt.pods)
				if got := m.slots(); !slices.Equal(got, tt.want) && tt.targets != (Targets{}) {
					t.Errorf("after more pods: got %v, want %v", got, tt.want)
				}
			})
	}
}

// Addresses that were requested and are not listed yet are not requested again, and nothing is returned meanwhile.
func TestPlan_pending(t *testing.T) {
	base := plan{
		targets: Targets{WarmIP: 4}, limits: Limits{ENIs: 3, Slots: 3}, enis: []candidate{{eni: ENI{ID: "eni-0"}}},
	}
	pending := base
	pending.enis = []candidate{{eni: ENI{ID: "eni-0"}, pending: 3}}
	arriving := pending
	arriving.coming, arriving.arriving = 1, 1
	idle := candidate{eni: ENI{ID: "eni-1", Device: 1}, usage: datastore.ENIUsage{Free: 3}}
	late := arriving
	late.targets, late.enis = Targets{WarmIP: 1}, []candidate{{eni: ENI{ID: "eni-0"}}, idle}
	idle.eni.Device = 0
	alone := base
	alone.targets, alone.enis = Targets{}, []candidate{idle}
	cooling := base
	cooling.enis = []candidate{{eni: ENI{ID: "eni-0"}, usage: datastore.ENIUsage{Cooling: 4}}}
	for name, tt := range map[string]struct {
		plan plan
		want step
	}{
		"nothing":          {base, step{ENI: "eni-0", Assign: 3}},
		"slots":            {pending, step{Attach: 1}},
		"an ENI":           {arriving, step{}},
		"more than wanted": {late, step{}},
		"cooling":          {cooling, step{}},
		"the primary ENI":  {alone, step{}},
	} {
		if diff := cmp.Diff(tt.want, tt.plan.next(), cmp.Comparer(func(a, b netip.Addr) bool {
			return a == b
		})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
