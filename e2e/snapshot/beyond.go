package snapshot

// Key names a thing wherever it appears: things of one scope, kind and name share it.
func (i Item) Key() string { return i.Scope + "|" + i.Kind + "|" + i.Name }

// Same reports whether two items are equal but for what Ignored names.
func Same(a, b Item) bool { return a.Key() == b.Key() && essence(a) == essence(b) }

// Beyond are the changes that go beyond an earlier difference: of each key as many are left out as that has.
func Beyond(changes, earlier []Change) []Change {
	count := map[string]int{}
	for _, c := range earlier {
		count[c.Item.Key()]++
	}
	var more []Change
	for _, c := range changes {
		if count[c.Item.Key()]--; count[c.Item.Key()] < 0 {
			more = append(more, c)
		}
	}
	return more
}
