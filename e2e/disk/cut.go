package disk

import (
	"bytes"
	"maps"
	"slices"
)

// These bound the number of disks.
const (
	mostLost   = 8 // steps of the journal
	mostWrites = 4 // contents of a file that may be left
)

// sector is the number of bytes that a disk writes as a whole.
const sector = 512

// Final returns the disk with everything that was done.
func (r *Recording) Final() Disk {
	h := replay(r)
	end := len(r.Calls)
	return h.disks(end, last(h.steps, end), nil)[0]
}

// Disks returns the disks that a cut at any moment may leave, each once, in the order of their cuts. Those on which
// more is as it was meant come first. A file that is empty since nothing was written to it yet looks like one whose
// data did not reach the disk: the disk tells of the latter.
func (r *Recording) Disks() []Disk {
	h := replay(r)
	seen := map[string]int{}
	var all []Disk
	for after := range h.trees {
		for lost := range min(len(h.steps), mostLost) + 1 {
			made := h.stepsUntil(after)
			if lost > len(made) {
				break
			}
			reached := 0
			if keep := len(made) - lost; keep > 0 {
				reached = made[keep-1]
			}
			if reached < h.forced[after] {
				break
			}
			for _, d := range h.disks(after, reached, made[len(made)-lost:]) {
				i, known := seen[d.key()]
				switch {
				case !known:
					seen[d.key()] = len(all)
					all = append(all, d)
				case all[i].Whole() && len(d.Lost) == 0 && d.empties():
					all[i] = d
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Disk) int { return a.After - b.After })
	return all
}

// empties reports whether files are empty whose data did not reach the disk, and nothing else is wrong.
func (d *Disk) empties() bool {
	return len(d.Damaged) > 0 && !slices.ContainsFunc(d.Damaged, func(d Damage) bool { return d.What != "empty" })
}

// stepsUntil returns the steps of the journal among the first calls.
func (h *history) stepsUntil(after int) []int {
	i, _ := slices.BinarySearch(h.steps, after+1)
	return h.steps[:i]
}

// content is what a file may have, and what is wrong with it; nil if nothing is.
type content struct {
	data   []byte
	damage *Damage
}

// disks returns the disks after a number of calls, with the journal up to a step.
func (h *history) disks(after, reached int, lost []int) []Disk {
	tree := h.trees[reached]
	var files []string // those that may have several contents
	choices := map[string][]content{}
	chosen := map[*object]bool{}
	for _, path := range slices.Sorted(maps.Keys(tree)) {
		o := tree[path]
		if !o.regular() || chosen[o] {
			continue
		}
		chosen[o] = true
		choices[path] = o.contents(path, after, reached)
		if len(choices[path]) > 1 {
			files = append(files, path)
		}
	}
	list := []Disk{h.disk(after, lost, tree, choices, nil)}
	for i, one := range files {
		for a := 1; a < len(choices[one]); a++ {
			list = append(list, h.disk(after, lost, tree, choices, map[string]int{one: a}))
		}
		for _, other := range files[:i] {
			for a := 1; a < len(choices[one]); a++ {
				for b := 1; b < len(choices[other]); b++ {
					list = append(list, h.disk(after, lost, tree, choices, map[string]int{one: a, other: b}))
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Disk) int { return len(a.Damaged) - len(b.Damaged) })
	return list
}

// disk makes one disk. choice has the contents of files that do not have the first one.
func (h *history) disk(after int, lost []int, tree names, choices map[string][]content, choice map[string]int) Disk {
	d := Disk{After: after, Lost: slices.Clone(lost)}
	of := map[*object]content{}
	for path, list := range choices {
		of[tree[path]] = list[choice[path]]
	}
	for _, path := range h.paths {
		o := tree[path]
		if o == nil {
			d.Gone = append(d.Gone, path)
			continue
		}
		f := File{Path: path, Mode: o.mode, Data: o.target}
		if o.regular() {
			f.Data = of[o].data
			if damage := of[o].damage; damage != nil {
				d.Damaged = append(d.Damaged, *damage)
			}
		}
		d.Files = append(d.Files, f)
	}
	slices.Reverse(d.Gone)
	return d
}

// contents returns what a file may have after a number of calls, with the journal up to a step: first what was written
// last.
func (o *object) contents(path string, after, reached int) []content {
	first := 0
	end := 0
	for i, v := range o.versions {
		switch {
		case v.at > after || i > 0 && v.step && v.at > reached:
			// It is not written yet, or in place of what a truncation that is not on the disk removes.
			return o.between(path, first, end, after)
		case v.step:
			first = i
		}
		end = i
	}
	return o.between(path, first, end, after)
}

// between returns what a file may have from one version to another. What was synced is there.
func (o *object) between(path string, first, end, after int) []content {
	synced := last(o.syncs, after)
	for i, v := range o.versions[:end+1] {
		if v.at <= synced {
			first = max(first, i)
		}
	}
	latest, durable := o.versions[end].data, o.versions[first].data
	recent := max(first+1, end-mostWrites+1)
	list := []content{{data: latest}}
	add := func(data []byte, what string, has int) {
		if slices.ContainsFunc(list, func(c content) bool { return bytes.Equal(c.data, data) }) {
			return
		}
		if len(data) == 0 {
			what = "empty"
		}
		list = append(list, content{data, &Damage{Path: path, What: what, Wrote: len(latest), Has: has}})
	}
	for i := first; i < end; i++ {
		if i == first || i >= recent {
			add(o.versions[i].data, "older", len(o.versions[i].data))
		}
	}
	for i := recent; i <= end; i++ {
		was, now := o.versions[i-1].data, o.versions[i].data
		if len(now) > len(durable) {
			add(append(bytes.Clone(durable), make([]byte, len(now)-len(durable))...), "zeros", len(now))
		}
		if edge := (len(now)/2 + sector - 1) / sector * sector; edge > 0 && edge < len(now) {
			torn := bytes.Clone(now[:edge])
			if len(was) > edge {
				torn = append(torn, was[edge:]...)
			}
			add(torn, "torn", edge)
		}
	}
	return list
}
