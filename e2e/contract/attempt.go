package contract

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// attempt is one fault and its outcome.
type attempt struct {
	fault.Injection
	trace fault.Trace
	// later has the calls that had to clear up.
	later []cni.Call
	left  []snapshot.Change
	// missing says what a success lacks.
	missing []snapshot.Change
	// wrongs says what else is wrong after a success.
	wrongs []string
}

// story describes the attempt for people.
func (a *attempt) story(verb cni.Verb, token *Token) report.Evidence {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s\n\nthe calls until then:\n%s\n", verb, a.Injection, fault.Summary(a.trace.Points))
	fmt.Fprintf(&b, "\n%s\n%s:\n%s\n", token.again(), verb, a.trace.Call.Transcript())
	for _, c := range a.later {
		fmt.Fprintf(&b, "\nthen %s:\n%s\n", c.Verb, c.Transcript())
	}
	if len(a.left) > 0 {
		fmt.Fprintf(&b, "\nwhat stayed behind:\n%s\n", lines(a.left))
	}
	if len(a.missing) > 0 {
		fmt.Fprintf(&b, "\nwhat is wrong after the success:\n%s\n", lines(a.missing))
	}
	for _, w := range a.wrongs {
		fmt.Fprintf(&b, "\nafter the success: it %s\n", w)
	}
	return report.Evidence{Title: fmt.Sprintf("%s, %s", verb, a.Injection), Text: b.String()}
}

// errnos returns the errors with which the kernel may answer a call.
func errnos(p fault.Point) []syscall.Errno {
	switch {
	case strings.HasPrefix(p.What, "RTM_DEL"):
		// ENODEV says that the link is gone, which is what the caller wanted.
		return []syscall.Errno{syscall.ENOMEM, syscall.EBUSY}
	case strings.HasPrefix(p.What, "RTM_") || strings.HasPrefix(p.What, "NFT_") || strings.Contains(p.Call, "send"):
		return []syscall.Errno{syscall.ENOMEM, syscall.EBUSY, syscall.ENODEV}
	case p.Call == "execve":
		return []syscall.Errno{syscall.ENOMEM}
	}
	return []syscall.Errno{syscall.ENOSPC, syscall.EBUSY}
}

// rareErrnos returns further errors, which a deep run tries. EEXIST is none of them: where it says that somebody else
// was faster, there must be what the other one made.
func rareErrnos(p fault.Point) []syscall.Errno {
	switch {
	case strings.HasPrefix(p.What, "RTM_") || strings.HasPrefix(p.What, "NFT_") || strings.Contains(p.Call, "send"):
		return []syscall.Errno{syscall.ENOBUFS, syscall.EPERM}
	case p.Call == "execve":
		return []syscall.Errno{syscall.EAGAIN, syscall.EIO}
	case strings.HasPrefix(p.What, "create"):
		return []syscall.Errno{syscall.EROFS, syscall.EIO, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE}
	case strings.HasPrefix(p.What, "sync "):
		return []syscall.Errno{syscall.EIO, syscall.EDQUOT}
	}
	return []syscall.Errno{syscall.EROFS, syscall.EIO, syscall.EDQUOT}
}

// injections returns all faults of a kind at the observed points, with rare errors or without.
func injections(points []fault.Point, kill, rare bool) []fault.Injection {
	var list []fault.Injection
	for _, p := range points {
		switch {
		case kill && p.Kill:
			list = append(list, fault.Injection{Point: p, When: fault.Before}, fault.Injection{
				Point: p, When: fault.After,
			})
		case !kill && p.Fail:
			possible := errnos(p)
			if rare {
				possible = append(possible, rareErrnos(p)...)
			}
			for _, errno := range possible {
				list = append(list, fault.Injection{Point: p, When: fault.Fail, Errno: errno})
			}
		}
	}
	return list
}
