package contract

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
)

// reboot is the step that is no verb: the node starts again with its disk.
const reboot cni.Verb = "reboot"

// variant says what is different about a call from the usual one.
type variant string

// These are the variants. A chain's result has the interfaces of later plugins, too, as runtimes pass it.
const (
	plain          variant = ""
	olderVersion   variant = "at an older cniVersion"
	withoutResult  variant = "without prevResult"
	resultOfChain  variant = "with the result of a longer chain"
	changedSetting variant = "after a setting was changed"
)

// step is one thing that happens to a node: a verb for one of two pods, or for none, or a reboot.
type step struct {
	verb cni.Verb
	pod  int
	how  variant
}

// String returns the step for people.
func (s step) String() string {
	if !s.ofPod() {
		return string(s.verb)
	}
	return strings.TrimSpace(fmt.Sprintf("%s of pod-%d %s", s.verb, s.pod+1, s.how))
}

// code names the step in a token, as DEL2-without-prevResult.
func (s step) code() string {
	if !s.ofPod() {
		return string(s.verb)
	}
	return strings.ReplaceAll(strings.TrimSpace(fmt.Sprintf("%s%d %s", s.verb, s.pod+1, s.how)), " ", "-")
}

func (s step) ofPod() bool { return s.verb == cni.Add || s.verb == cni.Del || s.verb == cni.Check }

// sequence is what happens to a node, in this order.
type sequence []step

// String returns the sequence for people.
func (q sequence) String() string {
	var list []string
	for _, s := range q {
		list = append(list, s.String())
	}
	return strings.Join(list, ", ")
}

// code names the sequence in a token.
func (q sequence) code() string {
	var list []string
	for _, s := range q {
		list = append(list, s.code())
	}
	return strings.Join(list, ".")
}

// promise is the model: what a plugin owes to a runtime that made some calls.
type promise struct {
	// attached are the pods whose ADD succeeded, and that were not deleted. Each has what ADD makes, alone or beside
	// the other one, and an address of its own; nothing else is on the node.
	attached [2]bool
	// unsure are those of whose last call nobody knows what it did: a second ADD without DEL, or one with a fault. They
	// may have anything, until DEL or, as an attachment that is not valid, GC.
	unsure [2]bool
	// held are those that were attached when the node went down. Nothing is left of them but what is on the disk, such
	// as an address, and that until DEL or GC. A new pod has another container id.
	held [2]bool
	// rebooted means that the node is not the one that was compared before.
	rebooted bool
}

// allows reports whether a runtime may take a step, and whether it is another one than a plain step.
func (p *promise) allows(s step) bool {
	on := p.attached[s.pod] && !p.unsure[s.pod]
	switch {
	case s.verb == cni.Check:
		return on
	case s.verb == cni.Add:
		return !p.unsure[s.pod]
	case s.how != plain:
		return on // DEL of nothing is the same in each variant
	}
	return true
}

// must reports whether a step has to succeed. Only a second ADD of the same attachment may fail (SPEC.md, section 2:
// "A runtime must not call ADD twice (without a DEL) for the same network").
func (p *promise) must(s step) bool { return s.verb != cni.Add || !p.attached[s.pod] }

// take changes the promise by a step that succeeded or did not.
func (p *promise) take(s step, succeeded bool) {
	switch s.verb {
	case cni.Add:
		p.unsure[s.pod] = p.attached[s.pod] // nobody says what a second ADD does, whether it succeeds or not
		p.attached[s.pod] = p.attached[s.pod] || succeeded
	case cni.Del:
		if p.attached[s.pod] || !p.held[s.pod] {
			p.attached[s.pod], p.unsure[s.pod] = false, false
		} else {
			p.held[s.pod] = false
		}
	case cni.GC:
		p.held = [2]bool{}
	case reboot:
		for i := range p.held {
			p.held[i] = p.held[i] || p.attached[i]
		}
		p.attached, p.unsure, p.rebooted = [2]bool{}, [2]bool{}, true
	}
}

// known reports whether the model says what is on the node.
func (p *promise) known() bool { return p.unsure == [2]bool{} && !p.rebooted }

// length is the largest number of steps of a sequence.
const length = 3

// sequences returns all sequences of the steps that make a difference. The pods are alike, so that pod-1 comes first,
// and nothing is said by one that attaches no pod.
func sequences(steps []step) (all []sequence) {
	var grow func(q sequence, p promise)
	grow = func(q sequence, p promise) {
		if slices.ContainsFunc(q, func(s step) bool { return s.verb == cni.Add }) {
			all = append(all, slices.Clone(q))
		}
		if len(q) == length {
			return
		}
		for _, s := range steps {
			first := !slices.ContainsFunc(q, step.ofPod)
			if !p.allows(s) || first && s.ofPod() && s.pod == 1 {
				continue
			}
			next := p
			next.take(s, true)
			grow(append(slices.Clone(q), s), next)
		}
	}
	grow(nil, promise{})
	return all
}
