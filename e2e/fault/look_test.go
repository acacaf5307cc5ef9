package fault_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/fault"
)

// TestInject_looks checks what a program gets to see.
func TestInject_looks(t *testing.T) {
	const text = `{"address": "10.1.2.3", "more": "of it"}`
	for _, tt := range []struct {
		words, what string
		when        fault.When
		errno       syscall.Errno
		times       int
		want        string
	}{
		{words: "link links", what: "RTM_GETLINK", when: fault.Interrupted, want: "1 links, results may be incomplete or inconsistent"},
		{words: "links-again", when: fault.Interrupted, want: "1 links after 2"},
		{words: "links-again", when: fault.Interrupted, times: 4, want: "1 links after 5"},
		{words: "links-again", when: fault.Interrupted, times: -1, want: "gave up"},
		{words: "links", when: fault.Fail, errno: unix.ENOMEM, want: "0 links, cannot allocate memory"},
		{words: "links-again", when: fault.Deaf, errno: unix.ENOBUFS, want: "1 links after 2"},
		{words: "lo", when: fault.Fail, errno: unix.ENOMEM, want: "cannot allocate memory"},
		{words: "lo", when: fault.Deaf, errno: unix.ENOBUFS, want: "no buffer space available"},
		{words: "interfaces", when: fault.Deaf, errno: unix.EINTR, want: "route ip+net: netlinkrib: interrupted system call"},
		{words: "lo", what: "socket", when: fault.Fail, errno: unix.EMFILE, want: "too many open files"},
		{words: "record", what: "open", when: fault.Fail, errno: unix.ENFILE, want: `"" open DIR/record: too many open files in system`},
		{words: "record", what: "read", when: fault.Fail, errno: unix.EIO, want: `"" read DIR/record: input/output error`},
		{words: "record", what: "read", when: fault.Short, want: `"{\"address\": \"10.1.2.3\", \"more\": \"of it\"}" <nil>`},
		{words: "record", what: "read", when: fault.Torn, want: `"{\"address\": \"10.1.2." <nil>`},
		{words: "record", what: "read", when: fault.Empty, want: `"" <nil>`},
	} {
		t.Run(tt.words+" "+tt.what+" "+string(tt.when), func(t *testing.T) {
			dir := directory(t)
			check(t, os.WriteFile(filepath.Join(dir, "record"), []byte(text), 0o600))
			seen, err := fault.ObserveReads(ctx(t), command(dir, tt.words))
			check(t, err)
			i := slices.IndexFunc(seen.Points, func(p fault.Point) bool {
				return slices.Contains(p.Looks(), tt.when) && strings.Contains(p.What, tt.what) &&
					(strings.HasPrefix(p.What, "RTM_GETLINK") || tt.what != "")
			})
			if i < 0 {
				t.Fatalf("no such point:\n%s", fault.Summary(seen.Points))
			}
			trace, err := fault.Inject(ctx(t), command(dir, tt.words), fault.Injection{
				Point: seen.Points[i], When: tt.when, Errno: tt.errno, Times: tt.times,
			})
			check(t, err)
			got, _, _ := strings.Cut(trace.Call.Stdout, "\n")
			if got = strings.ReplaceAll(got, dir, "DIR"); got != tt.want || !trace.Told || trace.Diverged {
				t.Errorf("got %q, told %t, diverged %t, want %q; points:\n%s", got, trace.Told, trace.Diverged, tt.want,
					fault.Summary(trace.Points))
			}
			wantAlone(t)
		})
	}
}

// A call of another kind in the place of the read is left alone: its third argument is no length.
func TestInject_looks_another_way(t *testing.T) {
	dir := directory(t)
	check(t, os.WriteFile(filepath.Join(dir, "record"), []byte("whole"), 0o600))
	seen, err := fault.ObserveReads(ctx(t), command(dir, "record"))
	check(t, err)
	at := func(look fault.Look) fault.Point {
		i := slices.IndexFunc(seen.Points, func(p fault.Point) bool {
			return p.Look == look && strings.HasSuffix(p.What, "/record")
		})
		if i < 0 {
			t.Fatalf("no %s:\n%s", look, fault.Summary(seen.Points))
		}
		return seen.Points[i]
	}
	expected := at(fault.LookRead)
	expected.Number = at(fault.LookOpen).Number
	for _, when := range []fault.When{fault.Short, fault.Torn, fault.Empty} {
		t.Run(string(when), func(t *testing.T) {
			trace, err := fault.Inject(ctx(t), command(dir, "record"), fault.Injection{Point: expected, When: when})
			check(t, err)
			got, _, _ := strings.Cut(trace.Call.Stdout, "\n")
			if want := `"whole" <nil>`; got != want || !trace.Diverged || trace.Told {
				t.Errorf("got %q, diverged %t, told %t, want %q, diverged, not told", got, trace.Diverged, trace.Told,
					want)
			}
		})
	}
}
