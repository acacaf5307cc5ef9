package contract

import (
	"context"
	"fmt"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
)

// racing returns the requirements about two calls at once.
func racing() []Requirement {
	const (
		why = "A kubelet starts and ends pods at the same time. What two calls do to each other shows once in ten " +
			"thousand pods, on somebody else's node, and nobody can repeat it."
		how = "Two calls take turns under a tracer: the first is stopped before a call that touches something which " +
			"the other one changes, or the other way round (netlink objects, files, directories, locks, daemons), " +
			"the other one runs to its end, or until it waits for the first, and the first goes on. Each stop whose " +
			"place matters is a schedule; every schedule has a token, and cnitest run CONFLIST --replay TOKEN " +
			"repeats it. A plain run tries some schedules, those with a window between look and use first, for two " +
			"pods on a node with other pods and without; --deep tries all of them, also for two interfaces of a pod " +
			"and two networks, and with two stops. "
		verdict = "Afterwards everything is as after one call and then the other: both succeed (or say with code 11 " +
			"that they want to be tried again, and succeed then), no address is given twice, nothing is missing, " +
			"CHECK passes, and every probe is answered; DEL leaves nothing. Two calls that wait for each other are a " +
			"failure, with the stacks of both."
	)
	race := func(first, second cni.Verb, since, text string, covers ...string) Requirement {
		return Requirement{
			ID: fmt.Sprintf("RACE-%s-%s", first, second), Level: Should, Section: "failure mode", Roles: inChain(),
			Since: since, Covers: covers, Text: text, Why: why, How: how + verdict, Cases: Schedules,
			check: func(ctx context.Context, t *trial) error { return t.race(ctx, [2]cni.Verb{first, second}) },
		}
	}
	return []Requirement{
		race(cni.Add, cni.Add, "", "Two ADDs at the same time do what they do one after the other.", "H01"),
		race(cni.Add, cni.Del, "", "ADD does what it does, whatever a DEL does at the same time.", "H02"),
		race(cni.Del, cni.Del, "", "Two DELs at the same time leave nothing."),
		race(cni.Add, cni.Check, "0.4.0", "CHECK of a pod passes while another one is attached."),
		race(cni.Del, cni.Check, "0.4.0", "CHECK of a pod passes while another one is deleted."),
		race(cni.Add, cni.Status, "1.1.0", "STATUS succeeds during an ADD, and does not disturb it."),
		race(cni.Del, cni.Status, "1.1.0", "STATUS succeeds during a DEL, and does not disturb it."),
	}
}

// pairing is what the two attachments of a race have in common.
type pairing string

// These are the pairings.
const (
	twoPods       pairing = "pods"
	twoInterfaces pairing = "interfaces" // of one pod
	twoNetworks   pairing = "networks"   // with a pod in each
)

// setting is a pair of calls, and the node on which they race.
type setting struct {
	verbs [2]cni.Verb
	pairs pairing
	// cold means that no other pod is attached, and that nothing is left of earlier ones.
	cold bool
}

// settings returns the settings of a pair of verbs.
func settings(verbs [2]cni.Verb, deep bool) []setting {
	pairs := []pairing{twoPods}
	if deep && verbs[1] != cni.Status {
		pairs = append(pairs, twoInterfaces, twoNetworks)
	}
	var list []setting
	for _, p := range pairs {
		list = append(list, setting{verbs, p, true}, setting{verbs, p, false})
	}
	return list
}

// who names one of the two calls.
func (s setting) who(run int) string {
	names := [2]string{"pod-1", "pod-2"}
	switch s.pairs {
	case twoInterfaces:
		names = [2]string{"eth0", "net1"}
	case twoNetworks:
		names[1] += " (another network)"
	}
	verb := s.verbs[run]
	if verb == cni.Status {
		return string(verb)
	}
	return fmt.Sprintf("%s of %s", verb, names[run])
}

// String returns the setting for people.
func (s setting) describe() string {
	node := "on a node with another pod"
	if s.cold {
		node = "on a node without other pods"
	}
	return strings.Join([]string{s.who(0), "and", s.who(1), node}, " ")
}
