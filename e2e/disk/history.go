package disk

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// object is a file, a directory or a symbolic link, under whatever name.
type object struct {
	mode   fs.FileMode
	target []byte // of a symbolic link
	// versions are the contents of a regular file.
	versions []version
	// steps are the numbers of the steps of the journal that concern it, syncs those of the calls that sync it.
	steps, syncs []int
}

// version is a content of a file.
type version struct {
	// at is the number of the call that wrote it; 0 for what was there before.
	at   int
	data []byte
	// step means that the call is a step of the journal: it created or shortened the file.
	step bool
}

func (o *object) regular() bool { return o.mode.IsRegular() }

// names has the objects by path.
type names map[string]*object

// history is a recording in a form from which disks can be made.
type history struct {
	// trees[n] has the names after n calls.
	trees []names
	// forced[n] is the last step of the journal that is on the disk for certain after n calls.
	forced []int
	// steps are the numbers of all steps of the journal.
	steps []int
	// paths are all paths that ever had an object, sorted.
	paths []string

	live    names
	everyOf []*object
}

// replay replays a recording.
func replay(r *Recording) *history {
	h := &history{live: names{}}
	for _, f := range r.Before {
		o := &object{mode: f.Mode, versions: []version{{data: f.Data}}}
		if f.Mode&fs.ModeSymlink != 0 {
			o.target = f.Data
		}
		h.live[f.Path] = o
		h.everyOf = append(h.everyOf, o)
	}
	paths := map[string]bool{}
	h.trees, h.forced = append(h.trees, maps.Clone(h.live)), append(h.forced, 0)
	for i, c := range r.Calls {
		h.call(i+1, c)
		h.trees = append(h.trees, maps.Clone(h.live))
		h.forced = append(h.forced, max(h.forced[i], h.makesDurable(i+1, c)))
	}
	for _, tree := range h.trees {
		for path := range tree {
			paths[path] = true
		}
	}
	h.paths = slices.Sorted(maps.Keys(paths))
	return h
}

// call applies a call to the names and contents.
func (h *history) call(n int, c Call) {
	o := h.live[c.Path]
	switch c.Kind {
	case Create, Mkdir, Symlink:
		if o == nil {
			h.create(n, c)
		}
	case Link:
		if o != nil {
			h.live[c.To] = o
			h.step(n, o, c.To)
		}
	case Rename:
		if o == nil {
			return
		}
		for path, moved := range maps.Clone(h.live) {
			if above(c.Path, path) {
				delete(h.live, path)
				h.live[c.To+strings.TrimPrefix(path, c.Path)] = moved
			}
		}
		h.step(n, o, c.Path, c.To)
	case Remove:
		if o != nil {
			delete(h.live, c.Path)
			h.step(n, o, c.Path)
		}
	case Write:
		if o == nil || len(o.versions) == 0 {
			return
		}
		shorter := len(c.Data) < len(o.versions[len(o.versions)-1].data)
		o.versions = append(o.versions, version{n, c.Data, shorter})
		if shorter {
			h.step(n, o)
		}
	case Mode:
		if o != nil {
			o.mode = o.mode.Type() | c.Mode.Perm()
		}
	case Sync:
		if o != nil {
			o.syncs = append(o.syncs, n)
		}
	case SyncAll:
		for _, o := range h.everyOf {
			o.syncs = append(o.syncs, n)
		}
	}
}

// create makes an object.
func (h *history) create(n int, c Call) {
	o := &object{mode: c.Mode, target: c.Data}
	switch c.Kind {
	case Mkdir:
		o.mode |= fs.ModeDir
	case Symlink:
		o.mode = fs.ModeSymlink | 0o777
	default:
		o.versions = []version{{at: n, step: true}}
	}
	h.everyOf = append(h.everyOf, o)
	h.live[c.Path] = o
	h.step(n, o, c.Path)
}

// step notes a step of the journal that concerns an object and the directories of paths.
func (h *history) step(n int, o *object, paths ...string) {
	h.steps = append(h.steps, n)
	o.steps = append(o.steps, n)
	for _, path := range paths {
		if dir := h.live[parent(path)]; dir != nil {
			dir.steps = append(dir.steps, n)
		}
	}
}

// makesDurable returns the last step of the journal that a call makes durable.
func (h *history) makesDurable(n int, c Call) int {
	switch c.Kind {
	case Sync:
		if o := h.live[c.Path]; o != nil {
			return last(o.steps, n)
		}
	case SyncAll:
		return last(h.steps, n)
	}
	return 0
}

// last returns the last of sorted numbers that is not above a limit; 0 if there is none.
func last(numbers []int, limit int) int {
	found := 0
	for _, n := range numbers {
		if n <= limit {
			found = n
		}
	}
	return found
}
