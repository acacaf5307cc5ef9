// Package contract contains the CNI specification as a table of requirements: each is one sentence with its level, its
// section, why it matters, and a check that runs a plugin's binary.
//
// A check runs one plugin of a chain alone, as a runtime would: the plugins before it are attached first, and the
// plugin's input and output are compared with the kernel. Checks do not use libcni, which would hide deviations. The
// package does not test reachability, which scenarios do. The table also contains the requirements on runtimes,
// whose checks are in package duty.
//
// Run its tests: go test ./e2e/contract (the checks themselves are tested in package e2e, on broken plugins)
package contract

import (
	"context"
	"slices"
	"strings"
)

// Commit is the version of the specification that the table follows, in github.com/containernetworking/cni: SPEC.md
// after 1.1.0, which adds disableGC, the name of the key cni.dev/valid-attachments, and the codes 50 and 51.
const Commit = "3f51e88"

// Role is the role of a plugin in a chain.
type Role string

// These are the roles.
const (
	Main    Role = "main"    // makes the interface; first of its chain
	Chained Role = "chained" // adjusts what others made
	IPAM    Role = "ipam"    // is delegated to, for addresses
	Runtime Role = "runtime" // calls plugins
)

// Level says how binding the specification is, in its own words, which RFC 2119 defines; lower case counts, too.
type Level string

// These are the levels. Stated is a sentence without such a word.
const (
	Must      Level = "MUST"
	MustNot   Level = "MUST NOT"
	Should    Level = "SHOULD"
	ShouldNot Level = "SHOULD NOT"
	May       Level = "MAY"
	Stated    Level = "stated"
)

// Requirement is one sentence of the specification, or one failure mode that users met and no sentence covers.
type Requirement struct {
	// ID is the id of results, e.g. "DEL-4"; the id of a failure mode is its own, e.g. "F01".
	ID    string
	Level Level
	// Section is its place in SPEC.md, e.g. "2, DEL"; the subject of a failure mode.
	Section string
	// Roles are the roles of the plugins that it applies to.
	Roles []Role
	// Since is the first cniVersion with the verb; empty means all.
	Since string
	// Text is the sentence, Why says what breaks without it, How says what the check does. Each ends with a full stop.
	Text, Why, How string
	// Covers are failure modes that the check would notice.
	Covers []string
	// Cases says what the check tries, if it tries many cases.
	Cases Cases
	// Unchecked says why no check is possible; empty if there is a check.
	Unchecked string

	// check examines a plugin. It is called once for each version if each is true, else once with the newest.
	check func(ctx context.Context, t *trial) error
	each  bool
	// alone means that the check attaches nothing.
	alone bool
	// afterScenarios means that the suite checks it itself, after every scenario.
	afterScenarios bool
	// long means that the check takes seconds.
	long bool
	// audit replaces check: it examines every call that the other checks made.
	audit func(t *trial, c observedCall)
}

// Checked reports whether the requirement has a check.
func (r *Requirement) Checked() bool { return r.check != nil || r.audit != nil }

// Audits reports whether it examines the calls of other checks, and so must come after them.
func (r *Requirement) Audits() bool { return r.audit != nil }

// NeedsAttachment reports whether the check is impossible if ADD of the plugin fails.
func (r *Requirement) NeedsAttachment() bool { return !r.alone }

// Long reports whether the check takes seconds, so that it should begin early.
func (r *Requirement) Long() bool { return r.long || r.Sweeps() }

// Of reports whether the requirement applies to a role.
func (r *Requirement) Of(role Role) bool { return slices.Contains(r.Roles, role) }

// Requirements returns all requirements, in the order of the specification, then the failure modes.
func Requirements() []*Requirement {
	var all []*Requirement
	for _, part := range [][]Requirement{
		configuration(), environment(), execution(), adding(), completeness(), deleting(), checking(), status(),
		collecting(), delegating(), answersOfDelegates(), conventions(), runtimes(), failures(), succeeding(),
		leadingAstray(), onLAN(), pacing(), sweeping(), reading(), sequencing(), racing(), powering(), attending(),
		always(),
	} {
		for i := range part {
			all = append(all, &part[i])
		}
	}
	return all
}

// LeavesNothing is the ID of the requirement that the suite checks after every scenario.
const LeavesNothing = "leaves-nothing"

// FirstAttachment is the ID of the requirement that the suite checks before everything else.
const FirstAttachment = "first-attachment"

// always returns the requirements that must be met before and after everything else.
func always() []Requirement {
	return []Requirement{{
		ID: FirstAttachment, Level: Must, Section: "2, ADD", Roles: inChain(), Covers: []string{"ADD-2"},
		Text: "A pod is attached as the conflist says.",
		Why: "Without it nothing can be checked: everything that needs an attachment is blocked, and says nothing " +
			"about the " +
			"plugin.",
		How: "Attaches one pod before anything else. A failure is reported with the calls that the kernel " +
			"refused. If the kernel lacks a requested feature, the run ends " +
			"with status 3.",
		afterScenarios: true,
	}, {
		ID: LeavesNothing, Level: Must, Section: "2, DEL", Roles: inChain(), Covers: []string{
			"DEL-1", "C07", "D13", "E07", "I05", "I07",
		},
		Text: "Once everything is deleted, every node is as it was before.",
		Why: "State that grows with each pod eventually fills a node; changes to objects of others break the node " +
			"today.",
		How: "After every scenario, when all was deleted twice: links, addresses, routes, rules, permanent " +
			"neighbours, qdiscs, nftables, iptables, sysctls, mounts, processes and files, " +
			"forwarding and multicast entries, nexthop objects, xfrm, ipsets, address labels, settings of " +
			"bridges' ports, MPLS, actions of traffic control, zones of connections and pinned objects of BPF. " +
			"State that stays is attributed to the plugin after whose call it appeared. A first pod may leave " +
			"something " +
			"new once, such as a shared link or a lock file; that is listed separately. " +
			"State that grows with each pod is a failure, and so are objects of the node that have changed or " +
			"disappeared.",
		afterScenarios: true,
	}}
}

// Find returns the requirement with an id, in upper or lower case; nil if there is none.
func Find(id string) *Requirement {
	for _, r := range Requirements() {
		if strings.EqualFold(r.ID, id) {
			return r
		}
	}
	return nil
}

// everyPlugin returns the roles of all plugins.
func everyPlugin() []Role { return []Role{Main, Chained, IPAM} }

// inChain returns the roles of the plugins in a conflist.
func inChain() []Role { return []Role{Main, Chained} }
