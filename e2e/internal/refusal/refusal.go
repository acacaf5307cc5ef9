// Package refusal finds out what the kernel refused to a plugin whose call failed. It repeats the call at once, on the
// same node and under a tracer. It distinguishes requests that the kernel refuses because it was built without a
// feature: no plugin is to blame for these.
//
// Run its tests: go test ./e2e/internal/refusal; the tests of package e2e use real plugins.
package refusal

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/report"
)

// Explanation says which requests of a failed call the kernel refused. The zero value explains nothing.
type Explanation struct {
	// EndedBy are the refusals that made the call fail, in their order. There are none if plugins cannot be traced, if
	// the kernel refused nothing, or if the repeated call ended differently.
	EndedBy []fault.Refusal
	// Named means that the plugin's answer contains the error of the last refusal, which therefore decided.
	Named bool
	// Lacks is the feature that the kernel was asked for and does not have, whoever asks; nil where it is the plugin's
	// affair.
	Lacks        *fault.Feature
	node, plugin string
}

// Of repeats a failed call on its node, under a tracer. It is for verbs that may be repeated: all except ADD. An error
// concerns the lab.
func Of(ctx context.Context, node *cluster.Node, call cni.Call) (Explanation, error) {
	return When(ctx, node, call, func() (*fault.Trace, error) {
		trace, err := node.Agent.Trace(ctx, agent.FaultArgs{Explain: true, PluginArgs: agent.PluginArgs{
			Plugin: call.Plugin, BinDirs: node.BinDirs, Env: call.Env, Stdin: []byte(call.Stdin),
			Timeout: Timeout(call),
		}})
		return &trace, err
	})
}

// When explains a call that failed on a node, with a function that repeats it under a tracer.
func When(
	ctx context.Context,
	node *cluster.Node,
	call cni.Call,
	again func() (*fault.Trace, error),
) (Explanation, error) {
	found := Explanation{node: node.Name, plugin: call.Plugin}
	if reason, err := node.Agent.CanTrace(ctx); err != nil || reason != "" {
		return found, err
	}
	trace, err := again()
	if err != nil || trace == nil || !sameEnd(call, trace.Call) {
		return found, err
	}
	found.EndedBy, found.Named = trace.EndedBy()
	return found, found.findLack(ctx, node)
}

// findLack asks the kernel for the features that may be missing: a feature is missing only if the kernel refuses it to
// others too.
func (e *Explanation) findLack(ctx context.Context, node *cluster.Node) error {
	for _, refused := range e.EndedBy {
		for _, feature := range refused.Features {
			if feature.Kind == fault.ProgramFeature && !e.Named {
				continue // a program can be useful and still not needed
			}
			missing, err := node.Agent.Lacks(ctx, feature)
			if err != nil {
				return err
			}
			if missing {
				e.EndedBy, e.Lacks = []fault.Refusal{refused}, &feature
				return nil
			}
		}
	}
	return nil
}

// Timeout returns how long a repeated call may take: a call that was killed has shown long before what it waits for.
func Timeout(call cni.Call) time.Duration {
	if call.Failure != "" {
		return 3 * time.Second
	}
	return cni.DefaultTimeout
}

// random matches the words that change from run to run: addresses, container IDs, names of links and of files.
var random = regexp.MustCompile(`[^\s/]*([0-9]|veth)[^\s/]*`)

// sameEnd reports whether two calls failed in the same way.
func sameEnd(a, b cni.Call) bool {
	end := func(c cni.Call) string {
		var answer cni.Error
		if json.Unmarshal([]byte(c.Stdout), &answer) == nil && answer.Msg != "" {
			return random.ReplaceAllString(answer.Msg+" "+answer.Details, "#")
		}
		return random.ReplaceAllString(c.Stdout, "#")
	}
	return a.ExitCode == b.ExitCode && end(a) == end(b)
}

// Evidence returns the refusals as evidence; nil if there are none.
func (e Explanation) Evidence() []report.Evidence {
	var lines []string
	for _, refused := range e.EndedBy {
		lines = append(lines, fmt.Sprintf("%s: %s", refused.Program, refused))
	}
	if lines == nil {
		return nil
	}
	return []report.Evidence{
		{
			Title: "what the kernel refused, when the call was made again under a tracer",
			Text:  strings.Join(lines, "\n"),
		},
	}
}

// Reason returns the end of a failure's reason, which says what the kernel refused; empty if it is not known that this
// decided.
func (e Explanation) Reason() string {
	if !e.Named || len(e.EndedBy) == 0 {
		return ""
	}
	return "; the kernel refused " + e.EndedBy[len(e.EndedBy)-1].String()
}

// Unfit returns the error of a machine that lacks what was asked for; nil where it lacks nothing.
func (e Explanation) Unfit() error {
	if e.Lacks == nil {
		return nil
	}
	last := e.EndedBy[len(e.EndedBy)-1]
	reason := fmt.Sprintf("%s: this kernel lacks %s, for which %s asks: %s", e.node, e.Lacks, last.Program, last)
	if e.Lacks.Kind == fault.ProgramFeature {
		reason = fmt.Sprintf("%s: %s is not installed, and %s calls it; install it where the nodes see it, or choose "+
			"what needs no such program in the conflist", e.node, e.Lacks, last.Program)
	}
	return &cluster.UnfitError{Lacks: e.Lacks.String(), Plugin: e.plugin, Reason: reason}
}
