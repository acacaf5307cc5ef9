package contract

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// reading returns the requirements about bad answers to a plugin that looks.
func reading() []Requirement {
	const (
		why = "On a busy node others change links and routes while a plugin lists them, and the kernel then says " +
			"that the list may be incomplete (NLM_F_DUMP_INTR): cilium#48718, moby#48407 and others met pods that " +
			"did not " +
			"start for that. Files are torn after a power cut, and processes run out of open files. Who takes a bad " +
			"answer for an empty one forgets a pod, or gives its address to another."
		how = "Another pod is attached all the time. Counts the calls by which an undisturbed %[1]s looks at " +
			"something: lists and requests of netlink, files that it opens, reads, lists or examines, locks and " +
			"sockets. Then each of them gets a bad answer: a list that was interrupted once, 30 times or each time " +
			"(and of which only the first object of each part is there), ENOMEM, ENOBUFS and EINTR on receive, a " +
			"record of the plugin that is empty, ends half way or is read in small pieces, EIO, EMFILE, ENFILE, and " +
			"EAGAIN or EINTR of a lock. What can be tried again must be: a list that was interrupted once and a read " +
			"in pieces are no errors. After all others, %[1]s ends with an error object, or succeeds %[2]s. A plain " +
			"run tries some by --seed, --deep all, also at the calls of the IPAM plugin, which are only noted."
	)
	list := []Requirement{
		{
			ID:   "READ-ADD",
			Text: "ADD tries again what was interrupted, and never takes a bad answer for an empty one.",
			How: fmt.Sprintf(how, "ADD", "with everything in place and nothing of the other pod touched; DEL then "+
				"clears up"),
		},
		{
			ID: "READ-DEL", Text: "DEL that could not read what it must remove does not say that it has removed it.",
			How: fmt.Sprintf(how, "DEL", "with everything removed; after an error the next DEL clears up"),
		},
		{
			ID: "READ-CHECK", Since: "0.4.0",
			Text: "CHECK does not take a pod for broken because a list was interrupted.",
			How:  fmt.Sprintf(how, "CHECK", "and has changed nothing; DEL then clears up"),
		},
		{
			ID: "READ-GC", Since: "1.1.0",
			Text: "GC that could not read what is there keeps what is valid, and does not say that the rest is gone.",
			How: fmt.Sprintf(how, "GC", "with the first pod's attachment cleared up and the other one's kept; after "+
				"an error the next GC clears up"),
		},
		{
			ID: "READ-STATUS", Since: "1.1.0",
			Text: "STATUS does not take a node for unready because a list was interrupted.",
			How:  fmt.Sprintf(how, "STATUS", "and has changed nothing"),
		},
	}
	for i := range list {
		verb := cni.Verb(strings.TrimPrefix(list[i].ID, "READ-"))
		list[i].Level, list[i].Section, list[i].Roles, list[i].Cases = Should, "failure mode", inChain(), BadReads
		list[i].Why = why
		list[i].check = func(ctx context.Context, t *trial) error { return t.read(ctx, verb) }
	}
	return list
}

// badAnswers returns what may happen at the looks of a plugin and of the programs that it starts; with all, also
// of the IPAM plugin that it delegates to, and what few programs can get. kept are the directories in which they keep
// their files.
func (s *Subject) badAnswers(points []fault.Point, kept []string, all bool) []fault.Injection {
	var list []fault.Injection
	for _, p := range points {
		loads := strings.Contains(path(p), ".so") // libraries: no plugin runs yet that could say what is wrong
		if p.Look == "" || s.delegates(p) && !all || loads {
			continue
		}
		for _, when := range p.Looks() {
			switch when {
			case fault.Interrupted:
				for _, times := range []int{1, 30, -1} {
					list = append(list, fault.Injection{Point: p, When: when, Times: times})
				}
			case fault.Torn, fault.Empty, fault.Short:
				if slices.Contains(kept, filepath.Dir(path(p))) {
					list = append(list, fault.Injection{Point: p, When: when})
				}
			case fault.Deaf:
				list = append(list, fault.Injection{Point: p, When: when, Errno: syscall.ENOBUFS})
				if all {
					list = append(list, fault.Injection{Point: p, When: when, Errno: syscall.EINTR})
				}
			case fault.Fail:
				for _, errno := range lookErrnos(p) {
					list = append(list, fault.Injection{Point: p, When: when, Errno: errno})
				}
			}
		}
	}
	return list
}

// delegates reports whether a point is one of the IPAM plugin that the subject delegates to.
func (s *Subject) delegates(p fault.Point) bool { return p.Program != s.Type && p.Program == s.ipam }

// path returns the path of a point that looks at a file.
func path(p fault.Point) string {
	words := strings.Fields(p.What)
	return words[len(words)-1]
}

// lookErrnos returns the errors with which a look may be answered.
func lookErrnos(p fault.Point) []syscall.Errno {
	kernel := strings.HasPrefix(path(p), "/proc/") || strings.HasPrefix(path(p), "/sys/")
	switch {
	case p.Look == fault.LookDump || p.Look == fault.LookRequest:
		return []syscall.Errno{syscall.ENOMEM}
	case p.Look == fault.LookSocket:
		return []syscall.Errno{syscall.EMFILE}
	case p.Look == fault.LookTryLock:
		return []syscall.Errno{syscall.EAGAIN}
	case p.Look == fault.LookLock:
		return []syscall.Errno{syscall.EINTR}
	case p.Look == fault.LookOpen && kernel:
		return []syscall.Errno{syscall.EMFILE}
	case p.Look == fault.LookOpen:
		return []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EIO}
	case kernel:
		return nil
	}
	return []syscall.Errno{syscall.EIO}
}

// again reports whether a fault is none for a plugin that tries again.
func again(i fault.Injection) bool {
	return i.When == fault.Short || i.When == fault.Interrupted && i.Times == 1
}

// worthOf sorts faults: what a plugin must try again, what it reads of its own records, all others.
func worthOf(i fault.Injection) int {
	switch {
	case i.When == fault.Interrupted && i.Times == 1:
		return 0
	case i.When == fault.Torn, i.When == fault.Empty, i.When == fault.Interrupted && i.Times < 0:
		return 1
	}
	return 2
}

// someOf chooses faults by a seed: most of each worth, of different points first.
func someOf(all []fault.Injection, most int, seed uint64) []fault.Injection {
	r := rand.New(rand.NewPCG(seed, uint64(len(all))))
	shuffled := make([]fault.Injection, len(all))
	for i, at := range r.Perm(len(all)) {
		shuffled[i] = all[at]
	}
	var list []fault.Injection
	for worth := range 3 {
		n := 0
		for _, fresh := range []bool{true, false} {
			for _, f := range shuffled {
				seen := slices.ContainsFunc(list, func(o fault.Injection) bool { return o.Point.Like(f.Point) })
				if worthOf(f) == worth && n < most && seen != fresh && !slices.Contains(keysOf(list), f.String()) {
					list = append(list, f)
					n++
				}
			}
		}
	}
	return list
}

func keysOf(list []fault.Injection) (keys []string) {
	for _, f := range list {
		keys = append(keys, f.String())
	}
	return keys
}
