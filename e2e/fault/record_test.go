package fault_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/disk"
	"github.com/cnitest/cnitest/e2e/fault"
)

// lasting returns a directory that counts as one of a disk, and a symbolic link to it elsewhere.
func lasting(tb testing.TB) (dir, link string) {
	tb.Helper()
	check(tb, unix.Mount("tmpfs", "/mnt", "tmpfs", 0, "mode=755"))
	tb.Cleanup(func() { check(tb, unix.Unmount("/mnt", unix.MNT_DETACH)) })
	check(tb, os.WriteFile("/mnt/t0", []byte("before"), 0o600))
	link = filepath.Join(directory(tb), "link")
	check(tb, os.Symlink("/mnt", link))
	return "/mnt", link
}

func TestRecord(t *testing.T) {
	dir, link := lasting(t)
	for _, tt := range []struct {
		words string
		want  []string
	}{
		{"files", []string{
			"create /mnt/#", `write /mnt/# "text"`, "sync /mnt/#", `write /mnt/# "te"`, "mode /mnt/#",
			"rename /mnt/# /mnt/a",
			"link /mnt/a /mnt/ab", `symlink /mnt/ac "a"`, "mkdir /mnt/ad", "remove /mnt/ad", "remove /mnt/ac",
			"remove /mnt/ab", "remove /mnt/a",
		}},
		{"threads", []string{`write /mnt/t0 ""`, "create /mnt/t1"}},
	} {
		t.Run(tt.words, func(t *testing.T) {
			log := fault.NewLog()
			trace, err := fault.Record(ctx(t), command(link, tt.words), log)
			check(t, err)
			if trace.Call.ExitCode != 0 {
				t.Fatal(trace.Call)
			}
			var got []string
			for _, c := range log.Recording().Calls {
				line := strings.TrimSpace(string(c.Kind) + " " + c.Path + " " + c.To)
				if c.Kind == disk.Write || c.Kind == disk.Symlink {
					line += ` "` + string(c.Data) + `"`
				}
				for _, word := range strings.Fields(line) {
					if strings.HasPrefix(word, "/mnt/a-") {
						line = strings.ReplaceAll(line, word, "/mnt/#")
					}
				}
				if c.Program != "plugin" {
					t.Errorf("got the program %q, want plugin", c.Program)
				}
				if tt.words == "files" || strings.HasSuffix(c.Path, "t1") && c.Kind == disk.Create ||
					c.Path == "/mnt/t0" && len(c.Data) == 0 {
					got = append(got, line)
				}
			}
			if tt.words == "threads" && len(got) == 2 && strings.HasPrefix(got[0], "create") {
				got[0], got[1] = got[1], got[0]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			before := log.Recording().Before
			if tt.words == "threads" && (len(before) != 2 || string(before[1].Data) != "before") ||
				before[0].Path != dir {
				t.Errorf("got %v, want the directory, and t0 as it was", before)
			}
			wantAlone(t)
		})
	}
	for _, words := range []string{"files delegate", "read", "unix"} {
		dir := directory(t)
		listen(t, dir)
		log := fault.NewLog()
		_, err := fault.Record(ctx(t), command(dir, words), log)
		check(t, err)
		if got := log.Recording(); len(got.Calls)+len(got.Before) != 0 {
			t.Errorf("%s in %s: got %v, want nothing", words, dir, got)
		}
	}
}

// What a program does that the plugin starts is its own.
func TestRecord_delegate(t *testing.T) {
	dir, _ := lasting(t)
	log := fault.NewLog()
	_, err := fault.Record(ctx(t), command(dir, "delegate"), log)
	check(t, err)
	calls := log.Recording().Calls
	if len(calls) == 0 || calls[0].Program != "delegate" {
		t.Errorf("got %v, want calls of delegate", calls)
	}
}
