// Package benchmark has the document that cnitest bench writes, bench.json: what the calls of a chain of plugins and
// the traffic of its pods cost, beside a plugin that does nothing and upstream's plugins. It renders it as a page and
// as Markdown, and compares two of them. It measures nothing.
//
// Run its tests: go test ./e2e/report/benchmark
package benchmark

import (
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/report"
)

// APIVersion and Kind identify the document.
const (
	APIVersion = "cnitest/v1alpha1"
	Kind       = "Benchmark"
)

// Benchmark is the document. All times are in seconds, all sizes in bytes. Times and rates are those of one machine;
// ratios to the chain that does nothing hold on others too.
type Benchmark struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Suite is what measured.
	Suite report.Suite `json:"suite"`
	// Conflist is the path as it was given, and CNIVersion the version at which its plugins ran.
	Conflist        string    `json:"conflist"`
	CNIVersion      string    `json:"cniVersion"`
	Started         time.Time `json:"started"`
	DurationSeconds float64   `json:"durationSeconds"`
	Machine         Machine   `json:"machine"`
	// Chains are those that were measured, the one under test first.
	Chains []Chain `json:"chains"`
	// Calls has a row for each verb of each chain with each number of attachments and of callers.
	Calls []Call `json:"calls"`
	// Growth has a row for each verb of the chain under test, if its calls were measured with different numbers of
	// attachments.
	Growth []Growth `json:"growth"`
	// Costs has a row for each verb of each chain whose calls were traced.
	Costs []Cost `json:"costs"`
	// Traffic has a row for each path of each chain's pods and each kind of traffic.
	Traffic []Traffic `json:"traffic"`
	// Findings are conclusions about the chain under test, one sentence each.
	Findings []string `json:"findings"`
	// Missing says what was not measured, and why.
	Missing []Missing `json:"missing"`
	// Notes are what a reader should know about how it was measured.
	Notes []string `json:"notes"`
}

// Machine is the one that measured.
type Machine struct {
	Kernel      string `json:"kernel"`
	Processor   string `json:"processor"`
	Processors  int    `json:"processors"`
	MemoryBytes int64  `json:"memoryBytes"`
}

// Role says why a chain is measured.
type Role string

// Tested is the chain of the conflist, Nothing the one that does nothing, Beside one of upstream's plugins.
const (
	Tested  Role = "tested"
	Nothing Role = "noop"
	Beside  Role = "beside"
)

// Chain is what one call runs: the plugins of a conflist one after the other.
type Chain struct {
	// Name is unique in the document; that of the chain that does nothing is "noop".
	Name    string   `json:"name"`
	Role    Role     `json:"role"`
	Plugins []Plugin `json:"plugins"`
}

// Plugin is a binary of a chain, of the chain itself or of one that it delegates to.
type Plugin struct {
	Type      string `json:"type"`
	SizeBytes int64  `json:"sizeBytes"`
	SHA256    string `json:"sha256"`
}

// Estimate is a value with its confidence interval.
type Estimate struct {
	Median float64 `json:"median"`
	// Low and High are the ends of the interval that has the true median with a probability of 95 %, by the order of
	// the measured values alone. With fewer than six of these they are the smallest and the largest one.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Call has the times of one verb of one chain.
type Call struct {
	Chain string `json:"chain"`
	Verb  string `json:"verb"`
	// Attachments is how many stood on the node, Callers how many calls were made at the same time.
	Attachments int `json:"attachments"`
	Callers     int `json:"callers"`
	// Count is the number of calls.
	Count int `json:"count"`
	// Seconds is the time of a call: of all plugins of the chain, each from the start of its process to its end.
	Seconds Estimate `json:"seconds"`
	// CPUSeconds is the processor time of a call, with that of the programs that the plugins started.
	CPUSeconds Estimate `json:"cpuSeconds"`
	// P99Seconds is the 99th percentile of that; of fewer than 100 calls it is the longest.
	P99Seconds float64 `json:"p99Seconds"`
	// Ratio is how many times as long a call took as the one of the chain that does nothing in the same round. With
	// several callers it is about the time from the start of the first call to the end of the last one. It is nil for
	// the chain that does nothing itself, and where that was not measured.
	Ratio *Estimate `json:"ratio,omitempty"`
	// PerSecond is how many calls ended in a second while so many callers were at work, in the median round.
	PerSecond float64 `json:"perSecond"`
}

// Growth says by how much a call takes longer for each attachment on the node: the slope of the line of least squares,
// once what goes with the chain that does nothing is taken out.
type Growth struct {
	Chain string `json:"chain"`
	Verb  string `json:"verb"`
	// Most is the largest number of attachments, and Factor how many times as long a call took then as on another node
	// with the smallest number in the same round.
	Most   int      `json:"most"`
	Factor Estimate `json:"factor"`
	// SecondsEach is the slope, and ErrorSeconds its standard error.
	SecondsEach  float64 `json:"secondsEach"`
	ErrorSeconds float64 `json:"errorSeconds"`
	// NothingEach is the slope in the time of a call that does nothing, and ErrorNothing its standard error.
	NothingEach  float64 `json:"nothingEach"`
	ErrorNothing float64 `json:"errorNothing"`
}

// Missing is something that was not measured.
type Missing struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Call returns the row of a verb of a chain; nil if there is none.
func (b *Benchmark) Call(chain, verb string, attachments, callers int) *Call {
	i := slices.IndexFunc(b.Calls, func(c Call) bool {
		return c.Chain == chain && c.Verb == verb && c.Attachments == attachments && c.Callers == callers
	})
	if i < 0 {
		return nil
	}
	return &b.Calls[i]
}

// Chain returns the chain under test; an empty one if the document has none.
func (b *Benchmark) Chain() Chain {
	for _, c := range b.Chains {
		if c.Role == Tested {
			return c
		}
	}
	return Chain{}
}
