package snapshot

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// takeQdiscs reads queueing disciplines with their classes and filters.
func (n network) takeQdiscs() ([]object, error) {
	qdiscs, err := n.handle.QdiscList(nil)
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, q := range qdiscs {
		a := q.Attrs()
		dev := "dev " + n.name(a.LinkIndex)
		seen := object{Item: Item{Name: dev + " " + parentName(a.Parent), Text: qdiscText(q)}}
		if a.Handle == 0 {
			// The kernel's default qdisc of a link has no handle, and no classes or filters.
			objects = append(objects, seen)
			continue
		}
		seen.remove = func() error { return n.handle.QdiscDel(q) }
		// The kernel restores its default qdisc itself.
		seen.restore = func(string) error { return seen.remove() }
		objects = append(objects, seen)
		below, err := n.takeBelow(q, dev)
		if err != nil {
			return nil, err
		}
		objects = append(objects, below...)
	}
	actions, err := n.takeActions()
	return append(objects, actions...), err
}

// parentName returns the name of the parent of a qdisc, class or filter.
func parentName(parent uint32) string {
	switch parent {
	case netlink.HANDLE_ROOT:
		return "root"
	case netlink.HANDLE_INGRESS, netlink.HANDLE_MIN_INGRESS:
		return "ingress"
	case netlink.HANDLE_MIN_EGRESS:
		return "egress"
	}
	return "parent " + handleName(parent)
}

// handleName returns a handle as major:minor. Majors from 0x8000 are assigned by the kernel and have no meaning; ffff
// is the ingress qdisc's.
func handleName(handle uint32) string {
	major, minor := netlink.MajorMinor(handle)
	if major >= 0x8000 && major != 0xffff {
		return fmt.Sprintf("auto:%x", minor)
	}
	return fmt.Sprintf("%x:%x", major, minor)
}

func qdiscText(q netlink.Qdisc) string {
	w := words{q.Type()}
	w.addf(q.Attrs().Handle != 0, "handle %s", handleName(q.Attrs().Handle))
	switch q := q.(type) {
	case *netlink.Tbf:
		w.addf(true, "rate %d limit %d buffer %d peakrate %d minburst %d", q.Rate, q.Limit, q.Buffer, q.Peakrate,
			q.Minburst)
	case *netlink.Htb:
		w.addf(true, "default %#x r2q %d", q.Defcls, q.Rate2Quantum)
	case *netlink.Prio:
		w.addf(true, "bands %d priomap %d", q.Bands, q.PriorityMap)
	}
	return w.String()
}

// takeBelow reads the classes and filters of a qdisc.
func (n network) takeBelow(q netlink.Qdisc, dev string) ([]object, error) {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: q.Attrs().LinkIndex}}
	parents := []uint32{q.Attrs().Handle}
	var objects []object
	switch q.Type() {
	case "clsact":
		parents = []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}
	case "htb", "hfsc":
		classes, err := retry(func() ([]netlink.Class, error) { return n.handle.ClassList(link, 0) })
		if err != nil {
			return nil, fmt.Errorf("list classes of %s: %w", dev, err)
		}
		for _, c := range classes {
			objects = append(objects, object{
				Item:   Item{Name: dev + " class " + handleName(c.Attrs().Handle), Text: classText(c)},
				remove: func() error { return n.handle.ClassDel(c) },
			})
		}
	}
	for _, parent := range parents {
		filters, err := n.handle.FilterList(link, parent)
		if err != nil {
			return nil, fmt.Errorf("list filters of %s: %w", dev, err)
		}
		for _, f := range filters {
			name := fmt.Sprintf("%s filter %s protocol %#x pref %d", dev, parentName(parent), f.Attrs().Protocol,
				f.Attrs().Priority)
			objects = append(objects, object{
				Item:   Item{Name: name, Text: n.filterText(f)},
				remove: func() error { return n.handle.FilterDel(f) },
			})
		}
	}
	return objects, nil
}

func classText(c netlink.Class) string {
	w := words{c.Type(), parentName(c.Attrs().Parent)}
	if htb, ok := c.(*netlink.HtbClass); ok {
		w.addf(true, "rate %d ceil %d buffer %d cbuffer %d prio %d", htb.Rate, htb.Ceil, htb.Buffer, htb.Cbuffer,
			htb.Prio)
	}
	return w.String()
}

// filterText describes u32, matchall, fw and bpf filters with their actions; of others only the type.
func (n network) filterText(f netlink.Filter) string {
	w := words{f.Type()}
	var actions []netlink.Action
	var class uint32
	switch f := f.(type) {
	case *netlink.U32:
		actions, class = f.Actions, f.ClassId
		if f.Sel != nil {
			for _, key := range f.Sel.Keys {
				w.addf(true, "match %08x/%08x at %d", key.Val, key.Mask, key.Off)
			}
		}
	case *netlink.MatchAll:
		actions, class = f.Actions, f.ClassId
	case *netlink.FwFilter:
		actions, class = f.Actions, f.ClassId
		w.addf(true, "fwmark %#x/%#x", f.Handle, f.Mask)
	case *netlink.BpfFilter:
		class = f.ClassId
		w.addf(true, "%s tag %s direct_action %t", f.Name, f.Tag, f.DirectAction)
	}
	w.addf(class != 0, "flowid %s", handleName(class))
	for _, a := range actions {
		w.add("action", n.actionText(a))
	}
	return w.String()
}

func (n network) actionText(a netlink.Action) string {
	if m, ok := a.(*netlink.MirredAction); ok {
		return fmt.Sprintf("mirred %s dev %s", m.MirredAction, n.name(m.Ifindex))
	}
	return a.Type() + " " + a.Attrs().Action.String()
}
