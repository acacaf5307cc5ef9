package snapshot

import (
	"regexp"
	"slices"
	"strings"
)

// The operations of a Change.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Change is a difference between two states.
type Change struct {
	// Op is Added, Removed or Changed.
	Op string `json:"op"`
	// Item is the item afterwards, or before if it was removed.
	Item Item `json:"item"`
	// Before is the previous text of a changed item.
	Before string `json:"before,omitempty"`
}

// String returns the change on one line: "+ link eno1.host: <BROADCAST> ...", "- ...", or "~ sysctl
// net.ipv4.ip_forward: 0 -> 1".
func (c Change) String() string {
	w := words{map[string]string{Added: "+", Removed: "-", Changed: "~"}[c.Op]}
	w.addf(c.Item.Scope != "", "%s", c.Item.Scope)
	w.add(c.Item.Kind, line(c.Item.Name, c.Before))
	switch {
	case c.Op == Changed:
		w.add("->", c.Item.Text)
	case c.Item.Text != "":
		w[len(w)-1] = line(c.Item.Name, c.Item.Text)
	}
	return w.String()
}

// line returns a name and its text.
func line(name, text string) string {
	if text == "" {
		return name
	}
	return name + ": " + text
}

// Diff returns the differences of after, sorted like a State. It leaves out what ignored names, and consequences of
// reported changes that the kernel itself made: the sysctls, link-local address, kernel routes, forwarding and
// multicast entries and nexthops of a link that was added or removed, the kernel routes of an added or removed address,
// the default qdisc that a link gets when it first goes up, and everything in a namespace that was added or removed.
func Diff(before, after State) []Change {
	b, a := sorted(before.Items), sorted(after.Items)
	var changes []Change
	for len(b) > 0 || len(a) > 0 {
		if len(a) == 0 || len(b) > 0 && compareKey(b[0], a[0]) < 0 {
			changes = append(changes, compareGroup(group(&b), nil)...)
			continue
		}
		if len(b) == 0 || compareKey(b[0], a[0]) > 0 {
			changes = append(changes, compareGroup(nil, group(&a))...)
			continue
		}
		changes = append(changes, compareGroup(group(&b), group(&a))...)
	}
	return causes(changes)
}

// sorted returns items in the order of a State.
func sorted(items []Item) []Item {
	if slices.IsSortedFunc(items, compare) {
		return items
	}
	items = slices.Clone(items)
	slices.SortFunc(items, compare)
	return items
}

// group splits the leading items of one name off a sorted list.
func group(items *[]Item) []Item {
	end := 1
	for end < len(*items) && compareKey((*items)[0], (*items)[end]) == 0 {
		end++
	}
	head := (*items)[:end]
	*items = (*items)[end:]
	return head
}

// compareGroup compares items that all have the same name. If one is left over on each side, it has changed; otherwise
// items were added and removed.
func compareGroup(before, after []Item) []Change {
	if slices.Equal(before, after) {
		return nil
	}
	gone, came := without(before, after), without(after, before)
	if len(gone) == 1 && len(came) == 1 {
		return []Change{{Op: Changed, Item: came[0], Before: gone[0].Text}}
	}
	var changes []Change
	for _, item := range gone {
		changes = append(changes, Change{Op: Removed, Item: item})
	}
	for _, item := range came {
		changes = append(changes, Change{Op: Added, Item: item})
	}
	return changes
}

// without returns the items that have no equal in others, except for ignored ones.
func without(items, others []Item) []Item {
	count := map[string]int{}
	for _, item := range others {
		count[essence(item)]++
	}
	var left []Item
	for _, item := range items {
		text := essence(item)
		if text == "" {
			continue
		}
		if count[text]--; count[text] < 0 {
			left = append(left, item)
		}
	}
	return left
}

// The parts of an item that name what it belongs to.
var (
	ofDevice     = regexp.MustCompile(`\bdev ([^\s:]+)`)
	ofLinkSysctl = regexp.MustCompile(`^net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh)\.([^.]+)\.`)
)

// owner is a link in a scope.
type owner struct{ scope, link string }

// causes leaves out changes that are only consequences of others.
func causes(changes []Change) []Change {
	namespaces, links, touched, addresses := map[string]bool{}, map[owner]bool{}, map[owner]bool{}, map[owner]bool{}
	for _, c := range changes {
		switch {
		case c.Item.Kind == Namespace:
			namespaces[c.Item.Scope] = true
		case c.Item.Kind == Link:
			on := owner{c.Item.Scope, c.Item.Name}
			links[on], touched[on] = c.Op != Changed, true
		case c.Item.Kind == Address && c.Op != Changed:
			addresses[device(c.Item)] = true
		}
	}
	return slices.DeleteFunc(changes, func(c Change) bool {
		if c.Item.Kind != Namespace && namespaces[c.Item.Scope] {
			return true
		}
		on := device(c.Item)
		switch c.Item.Kind {
		case Sysctl, Forwarding, Group, Nexthop, Label:
			return links[on]
		case Qdisc:
			plain := !strings.Contains(c.Item.Text, " handle ") && !strings.Contains(c.Item.Name, " class ") &&
				!strings.Contains(c.Item.Name, " filter ")
			return touched[on] && c.Op != Changed && plain
		case Address:
			return links[on] && strings.HasPrefix(c.Item.Name, "fe80:")
		case Route:
			return (links[on] || addresses[on]) && strings.Contains(c.Item.Text, "proto kernel")
		}
		return false
	})
}

// device returns the link that an item belongs to, if any.
func device(item Item) owner {
	match := ofDevice.FindStringSubmatch(line(item.Name, item.Text))
	if item.Kind == Sysctl {
		match = ofLinkSysctl.FindStringSubmatch(item.Name)
	}
	if match == nil {
		return owner{}
	}
	return owner{item.Scope, strings.ReplaceAll(match[1], "/", ".")}
}
