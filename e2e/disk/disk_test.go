package disk_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/disk"
)

// recorded makes a recording from a line for each call; the directory /d is there, and what before names.
func recorded(before map[string]string, lines ...string) *disk.Recording {
	r := &disk.Recording{Before: []disk.File{{Path: "/d", Mode: fs.ModeDir | 0o755}}}
	for path, data := range before {
		r.Before = append(r.Before, disk.File{Path: path, Mode: 0o600, Data: []byte(data)})
	}
	for _, line := range lines {
		words := strings.Fields(line)
		c := disk.Call{Program: "p", Kind: disk.Kind(words[0]), Mode: 0o600}
		if len(words) > 1 {
			c.Path = words[1]
		}
		switch c.Kind {
		case disk.Rename, disk.Link:
			c.To = words[2]
		case disk.Write, disk.Symlink:
			c.Data = []byte(strings.Join(words[2:], " "))
		case disk.Mkdir:
			c.Mode = 0o755
		}
		r.Calls = append(r.Calls, c)
	}
	return r
}

// contents returns the regular files and links of a disk, in a line.
func contents(d disk.Disk) string {
	var list []string
	for _, f := range d.Files {
		if !f.Mode.IsDir() {
			data := string(f.Data)
			if len(data) > 9 {
				data = fmt.Sprintf("%.3s…%s", data, data[len(data)-3:])
			}
			list = append(list, fmt.Sprintf("%s=%q", strings.TrimPrefix(f.Path, "/d/"), data))
		} else if f.Path != "/d" {
			list = append(list, strings.TrimPrefix(f.Path, "/d/")+"/")
		}
	}
	return strings.Join(list, " ")
}

func TestRecording_Disks(t *testing.T) {
	long := strings.Repeat("n", 1500)
	for _, tt := range []struct {
		name   string
		before map[string]string
		calls  []string
		want   []string
	}{
		{
			name:  "renamed before the data",
			calls: []string{"create /d/t", "write /d/t new", "rename /d/t /d/r"},
			want: []string{
				`0: `, `2:empty@/d/t: t=""`, `2: t="new"`, `2:zeros@/d/t: t="\x00\x00\x00"`,
				`3: r="new"`, `3:empty@/d/r: r=""`, `3:zeros@/d/r: r="\x00\x00\x00"`,
			},
		},
		{
			name:   "renamed over another one, after fsync",
			before: map[string]string{"/d/r": "old"},
			calls:  []string{"create /d/t", "write /d/t new", "sync /d/t", "rename /d/t /d/r"},
			want: []string{
				`0: r="old"`, `2:empty@/d/t: r="old" t=""`, `2: r="old" t="new"`,
				`2:zeros@/d/t: r="old" t="\x00\x00\x00"`,
				`4: r="new"`,
			},
		},
		{
			name:   "written in place",
			before: map[string]string{"/d/r": "old"},
			calls:  []string{"write /d/r", "write /d/r new", "sync /d/r"},
			want:   []string{`0: r="old"`, `2:empty@/d/r: r=""`, `2: r="new"`, `2:zeros@/d/r: r="\x00\x00\x00"`},
		},
		{
			name:   "a write larger than a sector",
			before: map[string]string{"/d/r": strings.Repeat("o", 2000)},
			calls:  []string{"write /d/r " + long + strings.Repeat("o", 500)},
			want:   []string{`0: r="ooo…ooo"`, `1: r="nnn…ooo"`, `1:torn@/d/r: r="nnn…ooo"`},
		},
		{
			name:  "what a directory's fsync keeps",
			calls: []string{"create /d/a", "sync /d/a", "create /d/b", "sync /d", "remove /d/a"},
			want:  []string{`0: `, `1: a=""`, `3: a="" b=""`, `5: b=""`},
		},
		{
			name:  "data of two files in either order",
			calls: []string{"create /d/a", "create /d/b", "sync /d", "write /d/a 1", "write /d/b 2"},
			want: []string{
				`0: `, `1: a=""`, `4:empty@/d/a: a="" b=""`, `5:empty@/d/b: a="1" b=""`, `4:zeros@/d/a: a="\x00" b=""`,
				`5: a="1" b="2"`, `5:empty@/d/a: a="" b="2"`, `5:zeros@/d/a: a="\x00" b="2"`,
				`5:zeros@/d/b: a="1" b="\x00"`,
				`5:empty@/d/a:zeros@/d/b: a="" b="\x00"`, `5:zeros@/d/a:zeros@/d/b: a="\x00" b="\x00"`,
			},
		},
		{
			name:  "directories, links, and an older content",
			calls: []string{"mkdir /d/n", "create /d/n/a", "write /d/n/a 1", "sync /d/n/a", "write /d/n/a 2", "rename /d/n /d/m", "symlink /d/l to"},
			want: []string{
				`0: `, `1: n/`, `3:empty@/d/n/a: n/ n/a=""`, `3: n/ n/a="1"`, `3:zeros@/d/n/a: n/ n/a="\x00"`,
				`5: n/ n/a="2"`,
				`6: m/ m/a="2"`, `6:older@/d/m/a: m/ m/a="1"`, `7: l="to" m/ m/a="2"`,
				`7:older@/d/m/a: l="to" m/ m/a="1"`,
			},
		},
		{
			name:  "a truncation is a step of the journal",
			calls: []string{"create /d/a", "write /d/a 1", "sync /d/a", "create /d/b", "write /d/a"},
			want: []string{
				`0: `, `2:empty@/d/a: a=""`, `2: a="1"`, `2:zeros@/d/a: a="\x00"`, `4: a="1" b=""`, `5: a="" b=""`,
			},
		},
		{
			name:  "everything is synced",
			calls: []string{"create /d/a", "write /d/a 1", "create /d/b", "write /d/b 2", "sync all"},
			want: []string{
				`0: `, `2:empty@/d/a: a=""`, `2: a="1"`, `2:zeros@/d/a: a="\x00"`, `4:empty@/d/b: a="1" b=""`,
				`3:empty@/d/a: a="" b=""`,
				`3:zeros@/d/a: a="\x00" b=""`, `4: a="1" b="2"`, `4:empty@/d/a: a="" b="2"`,
				`4:zeros@/d/a: a="\x00" b="2"`,
				`4:zeros@/d/b: a="1" b="\x00"`,
				`4:empty@/d/a:zeros@/d/b: a="" b="\x00"`, `4:zeros@/d/a:zeros@/d/b: a="\x00" b="\x00"`,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := recorded(tt.before, tt.calls...)
			var got []string
			for _, d := range r.Disks() {
				got = append(got, d.String()+": "+contents(d))
				if len(d.Files)+len(d.Gone) == 0 || d.Describe(r) == "" {
					t.Errorf("%s: got nothing of it", d.String())
				}
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// After a cut that no call forces to the disk, the same tree may stand for several cuts: a disk names the first.
func TestDisk_Describe(t *testing.T) {
	r := recorded(nil, "create /d/t", "write /d/t new", "rename /d/t /d/r", "create /d/u")
	for _, d := range r.Disks() {
		if d.String() != "3:empty@/d/r" {
			continue
		}
		want := "after call 3 of 4 (p: rename /d/t → /d/r), /d/r is empty (of 3 bytes)"
		if got := d.Describe(r); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		for _, part := range []string{"  3 p: rename", "── the power fails\n    4 p: create /d/u", "create /d/t\n   ── it begins\n    2 p", "/d/r \"\"\n", "/d/t is not there"} {
			if !strings.Contains(d.List(r, map[int]string{1: "it begins"}), part) {
				t.Errorf("got\n%s\nwant %q in it", d.List(r, map[int]string{1: "it begins"}), part)
			}
		}
		return
	}
	t.Error("no disk has the renamed file empty")
}

// A daemon that writes without end does not make disks without end.
func TestRecording_Disks_is_bounded(t *testing.T) {
	var calls []string
	for i := range 30 {
		calls = append(calls, "create /d/a", fmt.Sprintf("write /d/a %0*d", i+1, i), fmt.Sprintf("create /d/%d", i))
	}
	if got, most := len(recorded(nil, calls...).Disks()), 30*3*9*9; got == 0 || got > most {
		t.Errorf("got %d disks, want at most %d", got, most)
	}
}
