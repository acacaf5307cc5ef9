package snapshot

// Key identifies an item across states: items of the same scope, kind and name share it.
func (i Item) Key() string { return i.Scope + "|" + i.Kind + "|" + i.Name }

// Key identifies a change by its item and, for a setting, by its value: a setting that changes further each time is not
// the same change.
func (c Change) Key() string {
	if c.Op == Changed && c.Item.Kind == Sysctl {
		return c.Item.Key() + "|" + c.Item.Text
	}
	return c.Item.Key()
}

// Same reports whether two items are equal, ignoring what ignored names.
func Same(a, b Item) bool { return a.Key() == b.Key() && essence(a) == essence(b) }

// Beyond returns the changes that go beyond an earlier difference: of each key it leaves out as many as the earlier
// difference has.
func Beyond(changes, earlier []Change) []Change {
	count := map[string]int{}
	for _, c := range earlier {
		count[c.Key()]++
	}
	var more []Change
	for _, c := range changes {
		if count[c.Key()]--; count[c.Key()] < 0 {
			more = append(more, c)
		}
	}
	return more
}
