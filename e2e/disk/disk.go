// Package disk says what may be on a disk after the power was cut: from the calls by which programs changed files, and
// their fsyncs, it makes every disk that a file system may leave. It knows nothing of plugins and changes no files.
//
// # The model
//
// It is that of journaling file systems, ext4 and XFS with their defaults. A change of a name (create, rename, link,
// remove, mkdir) or a truncation is one step of a journal. Steps reach the disk in the order in which they were made,
// so that after a cut a number of the last ones is missing. Data is not ordered with them, nor with data of other
// files. Of the data that was written to a file since its last fsync there may be
//
//   - all of it,
//   - none: a new file is empty, also if it was renamed over another one meanwhile,
//   - what any earlier write left,
//   - its length with zeros, as ext4 leaves extents that were allocated and not yet written,
//   - a part of one write, up to the end of a sector. A write that fits in a sector of 512 bytes is not torn.
//
// fsync of a file or a directory makes its data durable, and with it the journal up to the last step that concerns it:
// its own creation, truncation and names, for a directory those of its entries. So fsync of a new file also keeps its
// first name; a later rename needs another fsync, of the file or the directory.
//
// Bounds: at most two files of a disk differ from what was written last, in what one of the last four writes left, and
// at most eight steps are missing, since a cut some calls earlier leaves much the same. Modes, owners, times and
// attributes are taken as durable. Writes through mmap(2) are not seen, those of O_DIRECT count as others.
//
// Run its tests: go test ./e2e/disk
package disk

import (
	"bytes"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Kind is the kind of a call.
type Kind string

// These are the kinds of calls.
const (
	Create  Kind = "create" // a regular file
	Mkdir   Kind = "mkdir"
	Symlink Kind = "symlink"
	Link    Kind = "link"
	Rename  Kind = "rename"
	Remove  Kind = "remove" // a file, or an empty directory
	Write   Kind = "write"  // also a truncation
	Mode    Kind = "mode"
	Sync    Kind = "sync"
	SyncAll Kind = "sync all"
)

// Call is a call that changed files, or made changes durable.
type Call struct {
	// Program is the base name of the program that made it.
	Program string `json:"program"`
	Kind    Kind   `json:"kind"`
	// Path is the file at the time of the call, To its new name.
	Path string `json:"path,omitempty"`
	To   string `json:"to,omitempty"`
	// Mode is that of the file, for Create, Mkdir and Mode.
	Mode fs.FileMode `json:"mode,omitempty"`
	// Data is the content of the file after a Write, or the target of a symbolic link.
	Data []byte `json:"data,omitempty"`
}

// String returns the call in a line.
func (c Call) String() string {
	text := fmt.Sprintf("%s: %s", c.Program, c.Kind)
	if c.Path != "" {
		text += " " + c.Path
	}
	switch {
	case c.To != "":
		text += " → " + c.To
	case c.Kind == Symlink:
		text += " → " + string(c.Data)
	case c.Kind == Write:
		text += fmt.Sprintf(" (%d bytes then)", len(c.Data))
	}
	return text
}

// File is a file, a directory or a symbolic link.
type File struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	// Data is the content of a regular file, or the target of a symbolic link.
	Data []byte `json:"data,omitempty"`
}

// Recording is what some programs did with files.
type Recording struct {
	// Before has the files that were there before, as far as calls touch them, and the directories above.
	Before []File `json:"before"`
	// Calls are in the order in which they ended.
	Calls []Call `json:"calls"`
}

// Damage is a file that does not have the content that was written last.
type Damage struct {
	Path string
	// What says what it has instead: "empty", "zeros", "torn", or "older".
	What string
	// Wrote is the length that was written, Has the one that is there.
	Wrote, Has int
}

// String returns the damage in words.
func (d Damage) String() string {
	switch d.What {
	case "empty":
		return fmt.Sprintf("%s is empty (of %d bytes)", d.Path, d.Wrote)
	case "zeros":
		return fmt.Sprintf("%s has zeros where there were data (%d bytes)", d.Path, d.Has)
	case "torn":
		return fmt.Sprintf("%s is torn (%d of %d bytes are new)", d.Path, d.Has, d.Wrote)
	}
	return fmt.Sprintf("%s has what it had before the last write", d.Path)
}

// Disk is a disk after a cut.
type Disk struct {
	// After is the number of calls that were made before the cut.
	After int
	// Lost are the numbers of those that changed names or lengths, and did not reach the disk.
	Lost []int
	// Damaged are the files that do not have their last content.
	Damaged []Damage
	// Files are all files that calls touch, parents first, Gone those that are not there, children first.
	Files []File
	Gone  []string
}

// Whole reports whether everything that was done before the cut is on the disk.
func (d *Disk) Whole() bool { return len(d.Lost) == 0 && len(d.Damaged) == 0 }

// String names the disk, in a form that a later recording of the same calls has again: "12", after 12 calls, or
// "12-2:empty@/a/b" without the last two steps of the journal and with an empty file.
func (d *Disk) String() string {
	text := fmt.Sprint(d.After)
	if len(d.Lost) > 0 {
		text += fmt.Sprintf("-%d", len(d.Lost))
	}
	for _, damage := range d.Damaged {
		text += fmt.Sprintf(":%s@%s", damage.What, damage.Path)
	}
	return text
}

// key is equal for equal disks.
func (d *Disk) key() string {
	var b strings.Builder
	for _, f := range d.Files {
		fmt.Fprintf(&b, "%q %o %d %s\n", f.Path, f.Mode, len(f.Data), f.Data)
	}
	return b.String()
}

// Describe tells people what the disk looks like: after which call, what is missing, which file is damaged.
func (d *Disk) Describe(r *Recording) string {
	var b strings.Builder
	switch {
	case d.After == 0:
		b.WriteString("before the first call")
	default:
		fmt.Fprintf(&b, "after call %d of %d (%s)", d.After, len(r.Calls), r.Calls[d.After-1])
	}
	for _, damage := range d.Damaged {
		b.WriteString(", " + damage.String())
	}
	switch n := len(d.Lost); {
	case n == 1:
		fmt.Fprintf(&b, ", and %d (%s) is not on the disk", d.Lost[0], r.Calls[d.Lost[0]-1])
	case n > 1:
		fmt.Fprintf(&b, ", and %d steps from %d (%s) on are not on the disk", n, d.Lost[0], r.Calls[d.Lost[0]-1])
	}
	return b.String()
}

// List shows the calls of a recording with the place of the cut, and the files that were there afterwards. notes says
// what else happened, by the number of calls that were made before.
func (d *Disk) List(r *Recording, notes map[int]string) string {
	var b strings.Builder
	between := func(calls int) {
		if calls == d.After {
			b.WriteString("   ── the power fails\n")
		}
		if notes[calls] != "" {
			fmt.Fprintf(&b, "   ── %s\n", notes[calls])
		}
	}
	for i, c := range r.Calls {
		mark := "  "
		if slices.Contains(d.Lost, i+1) {
			mark = "- "
		}
		between(i)
		fmt.Fprintf(&b, "%s%3d %s\n", mark, i+1, c)
	}
	between(len(r.Calls))
	b.WriteString("A minus marks calls that did not reach the disk.\n\nthe disk afterwards:\n")
	for _, f := range d.Files {
		if f.Mode.IsDir() {
			fmt.Fprintf(&b, "%s/\n", f.Path)
			continue
		}
		fmt.Fprintf(&b, "%s %q\n", f.Path, shortened(f.Data))
	}
	for _, path := range d.Gone {
		fmt.Fprintf(&b, "%s is not there\n", path)
	}
	return b.String()
}

// shortened returns the beginning of long data, and all of zeros as a word.
func shortened(data []byte) string {
	const most = 200
	if len(data) > 0 && len(bytes.Trim(data, "\x00")) == 0 {
		return fmt.Sprintf("%d zeros", len(data))
	}
	if len(data) > most {
		return string(data[:most]) + "…"
	}
	return string(data)
}

// above reports whether a path is in a directory, or the directory itself.
func above(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// parent returns the directory of a path.
func parent(path string) string { return filepath.Dir(path) }
