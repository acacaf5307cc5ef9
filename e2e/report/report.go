// Package report defines the document of a run: what was tested, every result, the verdict, and the evidence of
// failures.
//
// It knows nothing about scenarios or clusters; package e2e fills it in, and the command prints it.
//
// Run its tests: go test ./e2e/report
package report

import (
	"slices"
	"time"
)

// APIVersion and Kind start the document.
const (
	APIVersion = "cnitest/v1alpha1"
	Kind       = "ConformanceReport"
)

// Verdict is what a run says about the plugins under test.
type Verdict string

// These are the verdicts.
const (
	// Conformant: everything that counts passed.
	Conformant Verdict = "conformant"
	// Partial: nothing failed, but something that counts could not run here.
	Partial Verdict = "partial"
	// NotConformant: something that counts failed.
	NotConformant Verdict = "not-conformant"
	// EnvUnfit: the network between the nodes cannot carry the traffic of such a plugin, whatever the plugin does.
	EnvUnfit Verdict = "env-unfit"
)

// Outcome is the result of one scenario or requirement.
type Outcome string

// These are the outcomes.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	// Vacuous: the verb always succeeds and never notices anything.
	Vacuous Outcome = "vacuous"
	// NotApplicable: cannot exist here, e.g. GC before CNI 1.1.0.
	NotApplicable Outcome = "not-applicable"
	// NotClaimed: an extended feature that nobody claims.
	NotClaimed Outcome = "not-claimed"
	// Skipped: this machine or backend lacks a capability.
	Skipped Outcome = "skipped"
	// Blocked: depends on something that failed already, and says nothing by itself.
	Blocked Outcome = "blocked"
	// KnownUpstream: skel, libcni or an upstream plugin in the chain causes it.
	KnownUpstream Outcome = "known-upstream"
)

// These are the levels of a result.
const (
	Core     = "core"
	Extended = "extended"
	Must     = "MUST"
	Should   = "SHOULD"
)

// Chain is the plugin of a result that no single plugin is responsible for, such as reachability.
const Chain = "chain"

// Report is the document.
type Report struct {
	APIVersion string  `json:"apiVersion"`
	Kind       string  `json:"kind"`
	Verdict    Verdict `json:"verdict"`
	Suite      Suite   `json:"suite"`
	// Implementation is the tested chain.
	Implementation Implementation `json:"implementation"`
	Profile        string         `json:"profile"`
	Backend        string         `json:"backend"`
	Kernel         string         `json:"kernel"`
	Started        time.Time      `json:"started"`
	// DurationSeconds is the time from the start of the first cluster to the end of the last.
	DurationSeconds float64 `json:"durationSeconds"`
	// Interrupted says that the run ended before everything had been asked.
	Interrupted bool `json:"interrupted,omitempty"`
	// Runs is nil for a single run.
	Runs *Runs `json:"runs,omitempty"`
	// Inputs are what the run was given; nil for a runtime.
	Inputs *Inputs `json:"inputs,omitempty"`
	// Lab is the network of most scenarios; nil if none could be made.
	Lab     *Lab     `json:"lab,omitempty"`
	Results []Result `json:"results"`
	// FailureModes are the failure modes that a result covers, in the order of their ids.
	FailureModes []FailureMode `json:"failureModes"`
	// Scores count how often a verb noticed what was broken on purpose.
	Scores []Score `json:"scores"`
	// CallTimes has a row for each verb of each plugin whose calls succeeded; empty if none did.
	CallTimes []CallTime `json:"callTimes,omitempty"`
	// Figures are what a container runtime waits for; empty without one.
	Figures []Figure `json:"figures,omitempty"`
	// Residue is what the first attachment leaves on a node without later ones adding to it.
	Residue []Residue `json:"residue"`
	// Notes are for the user, such as how addresses were divided.
	Notes []string `json:"notes"`
	// Digest is the SHA-256 of the document without it, which WriteFile sets: a document that was changed by mistake
	// has another one.
	Digest string `json:"digest,omitempty"`
}

// Suite is the suite that tested.
type Suite struct {
	Version string `json:"version"`
}

// RuntimeProfile is the profile of a report about a runtime, which has no conflist.
const RuntimeProfile = "runtime"

// AboutRuntime reports whether a runtime was tested, in place of plugins.
func (r *Report) AboutRuntime() bool { return r.Profile == RuntimeProfile }

// Implementation is the tested chain, or the tested runtime as its only plugin.
type Implementation struct {
	Origin
	// Conflist is empty for a runtime.
	Conflist   string   `json:"conflist"`
	CNIVersion string   `json:"cniVersion"`
	Plugins    []Plugin `json:"plugins"`
}

// Plugin is a binary of the chain.
type Plugin struct {
	Type      string `json:"type"`
	UnderTest bool   `json:"underTest"`
	// Version is the module version from the binary's build information; empty if it has none.
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Lab is the network on which the plugins ran. Scenarios may have nodes of their own besides these.
type Lab struct {
	// Cloud says that the nodes are instances of a cloud, whose network is routed.
	Cloud bool `json:"cloud"`
	// Networks are the networks of the underlay and, if these are others, of the pods, e.g. "192.168.0.0/16".
	Networks []string  `json:"networks"`
	Nodes    []LabNode `json:"nodes"`
	Hosts    []LabHost `json:"hosts"`
}

// LabNode is a machine on which pods are attached.
type LabNode struct {
	// Name is the name in scenarios, e.g. "node/a".
	Name string `json:"name"`
	// Uplink is its interface on the underlay, Addresses are the addresses there.
	Uplink    string   `json:"uplink"`
	Addresses []string `json:"addresses"`
	// Pods is the number of pods that its share of the addresses allows; 0 means unknown.
	Pods int `json:"pods"`
}

// LabHost is a machine without the plugins.
type LabHost struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	// Behind is the host that leads to it; empty if it is on the nodes' network.
	Behind string `json:"behind,omitempty"`
}

// LabFails makes the result a skip because the lab failed.
func (r *Result) LabFails(reason error) {
	r.Result, r.Reason, r.Evidence, r.LabFailed = Skipped, reason.Error(), nil, true
}

// LacksOf makes the result a skip, since the machine lacks what the plugin requests. feature is the feature that its
// kernel was built without; empty if it is something else.
func (r *Result) LacksOf(reason, feature string) {
	r.Result, r.Reason, r.Evidence, r.Lacks = Skipped, reason, nil, feature
}

// FailureMode is a way in which a plugin failed its users.
type FailureMode struct {
	ID string `json:"id"`
	// Symptom says what users saw.
	Symptom string `json:"symptom"`
}

// Result is one scenario or requirement.
type Result struct {
	ID string `json:"id"`
	// Title is what a user of the plugin relies on, in a sentence; Why says what breaks without it.
	Title string `json:"title"`
	Why   string `json:"why,omitempty"`
	// Kind is "scenario" or "requirement".
	Kind string `json:"kind"`
	// Plugin is the type of the plugin that is responsible for it, or Chain.
	Plugin string   `json:"plugin"`
	Level  string   `json:"level"`
	Result Outcome  `json:"result"`
	Covers []string `json:"covers"`
	// Reason says why the result is not a pass, for the author of the plugin.
	Reason string `json:"reason,omitempty"`
	// BlockedBy is the result that blocks this one.
	BlockedBy string `json:"blockedBy,omitempty"`
	// LabFailed means that the result was skipped because the lab failed, and not because of the plugin or the user's
	// choice.
	LabFailed bool `json:"labFailed,omitempty"`
	// Lacks is the feature that a plugin requested and the kernel was built without, with its option; empty if it lacks
	// none.
	Lacks string `json:"lacks,omitempty"`
	// Disturbed describes how busy the machine was while the unit ran; empty if it was not too busy.
	Disturbed string `json:"disturbed,omitempty"`
	// FirstRun is the result of the first run if it failed on a disturbed machine; nil if there was one run. The result
	// is then that of the last run: the second, or a third with no other unit beside it.
	FirstRun        *FirstRun `json:"firstRun,omitempty"`
	DurationSeconds float64   `json:"durationSeconds"`
	// Repeat is the command line that repeats the result alone, if it is a failure.
	Repeat string `json:"repeat,omitempty"`
	// Evidence is what was seen when it failed.
	Evidence []Evidence `json:"evidence,omitempty"`
}

// FirstRun is a run that may have failed because of the machine.
type FirstRun struct {
	Result Outcome `json:"result"`
	Reason string  `json:"reason"`
	// Disturbed says how busy the machine was meanwhile.
	Disturbed string `json:"disturbed"`
}

// Score counts how often CHECK or STATUS of a plugin noticed what was broken on purpose.
type Score struct {
	Plugin string `json:"plugin"`
	Verb   string `json:"verb"`
	// Noticed of Provoked were noticed.
	Noticed  int `json:"noticed"`
	Provoked int `json:"provoked"`
	// Missed lists what was broken and not noticed.
	Missed []string `json:"missed"`
}

// Evidence is a titled text: a step, a call of a plugin, a difference of states, the path of a packet.
type Evidence struct {
	Title string `json:"title"`
	Text  string `json:"text"`
	// File is a packet capture for it, as a path relative to the report's directory; empty if there is none.
	File string `json:"file,omitempty"`
}

// Residue is something that stays on a node after the first attachment.
type Residue struct {
	// Plugin is the plugin after whose call it appeared; empty if that is unknown.
	Plugin string `json:"plugin"`
	// Item is its kind and name, Change its difference from the start.
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
		// Nothing was shown, which is no conformance.
		return Partial
	}
	if r.Interrupted && verdict == Conformant {
		return Partial
	}
	return verdict
}

// failed reports whether a result makes a plugin not conformant, if it counts.
func (r Result) failed() bool {
	return r.Result == Fail || r.Result == Vacuous && (binding(r.Level) || r.Level == Extended)
}

// binding reports whether a plugin must meet the level.
func binding(level string) bool { return level == Core || level == Must || level == "MUST NOT" }

// Counts reports whether a result counts for the verdict.
func (r *Report) Counts(res Result) bool {
	if res.Plugin == Chain {
		return true
	}
	return slices.ContainsFunc(r.Implementation.Plugins, func(p Plugin) bool {
		return p.Type == res.Plugin && p.UnderTest
	})
}

// Findings returns the failures of plugins that are not under test.
func (r *Report) Findings() []Result {
	var found []Result
	for _, res := range r.Results {
		if !r.Counts(res) && (res.Result == Fail || res.Result == Vacuous) {
			found = append(found, res)
		}
	}
	return found
}

// Count returns how many results have an outcome. Failures are those that count for the verdict; Findings has the
// others.
func (r *Report) Count(o Outcome) int {
	n := 0
	for _, res := range r.Results {
		if res.Result == o && (r.Counts(res) || o != Fail && o != Vacuous) {
			n++
		}
	}
	return n
}
