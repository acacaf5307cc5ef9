// Package report is the document of a run: what was tested, every result, the verdict, and the evidence of what failed.
//
// It knows nothing of scenarios or clusters; package e2e fills it, the command prints it.
//
// Run its tests: go test ./e2e/report
package report

import (
	"slices"
	"time"
)

// APIVersion and Kind are what the document starts with.
const (
	APIVersion = "cnitest/v1alpha1"
	Kind       = "ConformanceReport"
)

// Verdict is what a run says of the plugins under test.
type Verdict string

// The verdicts.
const (
	// Conformant: everything that counts passed.
	Conformant Verdict = "conformant"
	// Partial: nothing failed, and something that counts could not be run here.
	Partial Verdict = "partial"
	// NotConformant: something that counts failed.
	NotConformant Verdict = "not-conformant"
	// EnvUnfit: the network between the nodes cannot carry what the plugin is for, whatever the plugin does.
	EnvUnfit Verdict = "env-unfit"
)

// Outcome is the result of one scenario or requirement.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	// Vacuous: the verb answers success and never notices anything.
	Vacuous Outcome = "vacuous"
	// NotApplicable: cannot exist here by nature, e.g. GC before CNI 1.1.0.
	NotApplicable Outcome = "not-applicable"
	// NotClaimed: an extended feature that nobody claims.
	NotClaimed Outcome = "not-claimed"
	// Skipped: this machine or backend lacks a capability.
	Skipped Outcome = "skipped"
	// Blocked: needs something that failed already, and says nothing by itself.
	Blocked Outcome = "blocked"
	// KnownUpstream: skel, libcni or an upstream plugin in the chain forces it.
	KnownUpstream Outcome = "known-upstream"
)

// The levels of a result.
const (
	Core     = "core"
	Extended = "extended"
	Must     = "MUST"
	Should   = "SHOULD"
)

// Chain is the plugin of a result that no single plugin answers for, such as reachability.
const Chain = "chain"

// Report is the document.
type Report struct {
	APIVersion string  `json:"apiVersion"`
	Kind       string  `json:"kind"`
	Verdict    Verdict `json:"verdict"`
	Suite      Suite   `json:"suite"`
	// Implementation is what was tested.
	Implementation Implementation `json:"implementation"`
	Profile        string         `json:"profile"`
	Backend        string         `json:"backend"`
	Kernel         string         `json:"kernel"`
	Started        time.Time      `json:"started"`
	// DurationSeconds is the time from the start of the first cluster to the end of the last.
	DurationSeconds float64 `json:"durationSeconds"`
	// Lab is the network of most scenarios; nil where none could be made.
	Lab     *Lab     `json:"lab,omitempty"`
	Results []Result `json:"results"`
	// FailureModes are those that a result covers, in the order of their ids.
	FailureModes []FailureMode `json:"failureModes"`
	// Scores are how often a verb noticed what was broken on purpose.
	Scores []Score `json:"scores"`
	// Residue is what the first attachment leaves on a node and later ones do not add to.
	Residue []Residue `json:"residue"`
	// Notes are what the user should know of the lab, such as how addresses were shared out.
	Notes []string `json:"notes"`
}

// Suite is the tester.
type Suite struct {
	Version string `json:"version"`
}

// Implementation is the tested.
type Implementation struct {
	Conflist   string   `json:"conflist"`
	CNIVersion string   `json:"cniVersion"`
	Plugins    []Plugin `json:"plugins"`
}

// Plugin is a binary of the chain.
type Plugin struct {
	Type      string `json:"type"`
	UnderTest bool   `json:"underTest"`
	// Version is the module version from the binary's build information; empty when it has none.
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Lab is the network on which the plugins ran. Scenarios may have nodes of their own beside these.
type Lab struct {
	// Cloud says that the nodes are instances of a cloud, whose network is routed.
	Cloud bool `json:"cloud"`
	// Networks are those of the underlay and, where these are others, of the pods, e.g. "192.168.0.0/16".
	Networks []string  `json:"networks"`
	Nodes    []LabNode `json:"nodes"`
	Hosts    []LabHost `json:"hosts"`
}

// LabNode is a machine on which pods are attached.
type LabNode struct {
	// Name is as scenarios say it, e.g. "node/a".
	Name string `json:"name"`
	// Uplink is its interface on the underlay, Addresses what it has there.
	Uplink    string   `json:"uplink"`
	Addresses []string `json:"addresses"`
	// Pods is how many its share of the addresses allows; 0 means that it is not known.
	Pods int `json:"pods"`
}

// LabHost is a machine without the plugins.
type LabHost struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	// Behind is the host that leads to it; empty where it is on the nodes' network.
	Behind string `json:"behind,omitempty"`
}

// LabFails makes the result a skip of which the lab's failure is the reason.
func (r *Result) LabFails(reason error) {
	r.Result, r.Reason, r.Evidence, r.LabFailed = Skipped, reason.Error(), nil, true
}

// LacksOf makes the result a skip, since the machine lacks what the plugin asks for. feature is what its kernel was
// built without; empty where it is something else.
func (r *Result) LacksOf(reason, feature string) {
	r.Result, r.Reason, r.Evidence, r.Lacks = Skipped, reason, nil, feature
}

// FailureMode is a way in which a plugin failed its users.
type FailureMode struct {
	ID string `json:"id"`
	// Symptom is what users saw.
	Symptom string `json:"symptom"`
}

// Result is one scenario or requirement.
type Result struct {
	ID string `json:"id"`
	// Title is what a plugin's user relies on, in a sentence; Why is what breaks where it does not hold.
	Title string `json:"title"`
	Why   string `json:"why,omitempty"`
	// Kind is "scenario" or "requirement".
	Kind string `json:"kind"`
	// Plugin is the type of the plugin that answers for it, or Chain.
	Plugin string   `json:"plugin"`
	Level  string   `json:"level"`
	Result Outcome  `json:"result"`
	Covers []string `json:"covers"`
	// Reason says why the result is not a pass, in words for the plugin's author.
	Reason string `json:"reason,omitempty"`
	// BlockedBy is the result that a blocked one waits for.
	BlockedBy string `json:"blockedBy,omitempty"`
	// LabFailed tells of a skip that is neither the plugin's doing nor the user's choice: it could be asked here, and
	// the lab failed.
	LabFailed bool `json:"labFailed,omitempty"`
	// Lacks is the feature that the kernel was built without and a plugin asked for, with its option; empty where it
	// lacks none.
	Lacks string `json:"lacks,omitempty"`
	// Disturbed says how the machine was busy while it ran, in words; empty where it was not beyond measure.
	Disturbed string `json:"disturbed,omitempty"`
	// FirstRun is what came of it when it ran for the first time and failed on a disturbed machine; nil where it ran
	// once. The result is then that of a second run, with no other beside it.
	FirstRun        *FirstRun `json:"firstRun,omitempty"`
	DurationSeconds float64   `json:"durationSeconds"`
	// Repeat is the command line that brings about the result alone, where it is a failure.
	Repeat string `json:"repeat,omitempty"`
	// Evidence is what was seen when it failed.
	Evidence []Evidence `json:"evidence,omitempty"`
}

// FirstRun is a run whose failure may have been the machine's.
type FirstRun struct {
	Result Outcome `json:"result"`
	Reason string  `json:"reason"`
	// Disturbed says how the machine was busy meanwhile.
	Disturbed string `json:"disturbed"`
}

// Score is how often CHECK or STATUS of a plugin noticed what was broken on purpose.
type Score struct {
	Plugin string `json:"plugin"`
	Verb   string `json:"verb"`
	// Noticed of Provoked were.
	Noticed  int `json:"noticed"`
	Provoked int `json:"provoked"`
	// Missed are what was broken unnoticed.
	Missed []string `json:"missed"`
}

// Evidence is a titled text: a step, a plugin's call, a state difference, the way of a packet.
type Evidence struct {
	Title string `json:"title"`
	Text  string `json:"text"`
	// File is a packet capture that belongs to it, as a path relative to the report's directory; empty where there is
	// none.
	File string `json:"file,omitempty"`
}

// Residue is something that stays on a node after the first attachment.
type Residue struct {
	// Plugin is the plugin after whose call it appeared; empty when that was not seen.
	Plugin string `json:"plugin"`
	// Item is its kind and name, Change how it differs from the start.
	Item   string `json:"item"`
	Change string `json:"change"`
}

// Judge derives the verdict from the results: only those of the chain and of plugins under test count.
func (r *Report) Judge() Verdict {
	verdict := Conformant
	for _, res := range r.Results {
		switch {
		case !r.Counts(res):
		case res.failed():
			return NotConformant
		case (res.Result == Skipped || res.Result == Blocked) && binding(res.Level):
			verdict = Partial
		}
	}
	if !slices.ContainsFunc(r.Results, func(res Result) bool {
		return res.Result == Pass && r.Counts(res)
	}) && verdict == Conformant {
		// Nothing was shown: silence is no conformance.
		return Partial
	}
	return verdict
}

// failed reports whether a result makes a plugin not conformant, if it counts.
func (r Result) failed() bool {
	return r.Result == Fail || r.Result == Vacuous && (binding(r.Level) || r.Level == Extended)
}

// binding reports whether nobody may do without.
func binding(level string) bool { return level == Core || level == Must || level == "MUST NOT" }

// Counts reports whether a result bears on the verdict.
func (r *Report) Counts(res Result) bool {
	if res.Plugin == Chain {
		return true
	}
	return slices.ContainsFunc(r.Implementation.Plugins, func(p Plugin) bool {
		return p.Type == res.Plugin && p.UnderTest
	})
}

// Findings are failures of plugins that are not under test.
func (r *Report) Findings() []Result {
	var found []Result
	for _, res := range r.Results {
		if !r.Counts(res) && (res.Result == Fail || res.Result == Vacuous) {
			found = append(found, res)
		}
	}
	return found
}

// Count is how many results have an outcome; failures are those that bear on the verdict, see Findings for the others.
func (r *Report) Count(o Outcome) int {
	n := 0
	for _, res := range r.Results {
		if res.Result == o && (r.Counts(res) || o != Fail && o != Vacuous) {
			n++
		}
	}
	return n
}
