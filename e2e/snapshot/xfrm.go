package snapshot

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// takeXfrm reads the states and policies of IPsec, without keys and counters.
func (n network) takeXfrm() ([]object, error) {
	states, err := retry(func() ([]netlink.XfrmState, error) { return netlink.XfrmStateList(netlink.FAMILY_ALL) })
	if err != nil {
		return nil, unlessLacking(err)
	}
	var objects []object
	for _, s := range states {
		var text words
		text.addf(true, "mode %s reqid %d", s.Mode, s.Reqid)
		text.addf(s.Ifid != 0, "if_id %#x", s.Ifid)
		objects = append(objects, object{
			Item: Item{Name: fmt.Sprintf("state src %s dst %s proto %s spi %#x", s.Src, s.Dst, s.Proto,
				uint32(s.Spi)), Text: text.String()},
			remove: func() error { return netlink.XfrmStateDel(&s) },
		})
	}
	policies, err := retry(func() ([]netlink.XfrmPolicy, error) { return netlink.XfrmPolicyList(netlink.FAMILY_ALL) })
	if err != nil {
		return objects, unlessLacking(err)
	}
	for _, p := range policies {
		var name, text words
		name.addf(true, "policy src %s dst %s dir %s", p.Src, p.Dst, p.Dir)
		name.addf(p.Ifindex != 0, "dev %s", n.name(p.Ifindex))
		text.addf(true, "priority %d action %s", p.Priority, p.Action)
		for _, t := range p.Tmpls {
			text.addf(true, "tmpl src %s dst %s proto %s mode %s", t.Src, t.Dst, t.Proto, t.Mode)
		}
		objects = append(objects, object{
			Item: Item{Name: name.String(), Text: text.String()}, remove: func() error {
				return netlink.XfrmPolicyDel(&p)
			},
		})
	}
	return objects, nil
}

// takeIPSets reads ipsets with their entries, except for entries that expire.
func (n network) takeIPSets() ([]object, error) {
	sets, err := retry(netlink.IpsetListAll)
	if err != nil {
		return nil, unlessLacking(err)
	}
	var objects []object
	for _, set := range sets {
		objects = append(objects, object{
			Item: Item{Name: "set " + set.SetName, Text: set.TypeName}, remove: func() error {
				return netlink.IpsetDestroy(set.SetName)
			},
		})
		for _, e := range set.Entries {
			if e.Timeout != nil && *e.Timeout != 0 {
				continue
			}
			var w words
			w.addf(e.IP != nil, "%s", e.IP)
			w.addf(e.CIDR != 0, "/%d", e.CIDR)
			w.addf(e.IP2 != nil, "%s", e.IP2)
			w.addf(e.Port != nil, "port %d", deref(e.Port))
			w.addf(e.Mark != nil, "mark %#x", deref(e.Mark))
			w.addf(e.MAC != nil, "%s", e.MAC)
			w.addf(e.IFace != "", "dev %s", e.IFace)
			objects = append(objects, object{
				Item: Item{Name: "entry of " + set.SetName + " " + w.String()}, remove: func() error {
					return netlink.IpsetDel(set.SetName, &e)
				},
			})
		}
	}
	return objects, nil
}

func deref[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}
