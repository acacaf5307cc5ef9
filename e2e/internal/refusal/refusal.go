// Package refusal finds out what the kernel refused a plugin whose call failed. The call is made again at once, on the
// same node and under a tracer. What a kernel refuses because it was built without a feature is told apart: that is
// nobody's failure.
//
// Run its tests: go test ./e2e/internal/refusal; those of package e2e ask real plugins.
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

// Explanation is what a call that failed asked of the kernel in vain. The zero value explains nothing.
type Explanation struct {
	// EndedBy are the refusals by which the call ended, the last one last; none where no plugin can be traced, where
	// the kernel refused nothing, or where the call ended in another way when it was made again.
	EndedBy []fault.Refusal
	// Named says that the plugin's answer names the error of the last refusal, which therefore decided.
	Named bool
	// Lacks is the feature that the kernel was asked for and does not have, whoever asks; nil where it is the plugin's
	// affair.
	Lacks *fault.Feature
	node  string
}

// Of makes a call that failed again on its node, under a tracer. It is for verbs that may be repeated: all but ADD. Its
// error is the lab's.
func Of(ctx context.Context, node *cluster.Node, call cni.Call) (Explanation, error) {
	return When(ctx, node, call, func() (*fault.Trace, error) {
		trace, err := node.Agent.Trace(ctx, agent.FaultArgs{Explain: true, PluginArgs: agent.PluginArgs{
			Plugin: call.Plugin, BinDirs: node.BinDirs, Env: call.Env, Stdin: []byte(call.Stdin),
			Timeout: Timeout(call),
		}})
		return &trace, err
	})
}

// When explains a call that failed on a node by what makes it again under a tracer.
func When(
	ctx context.Context,
	node *cluster.Node,
	call cni.Call,
	again func() (*fault.Trace, error),
) (Explanation, error) {
	found := Explanation{node: node.Name}
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

// findLack asks the kernel for the features that may be missing: a lack is one only where others are told so, too.
func (e *Explanation) findLack(ctx context.Context, node *cluster.Node) error {
	for _, refused := range e.EndedBy {
		for _, feature := range refused.Features {
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

// Timeout returns how long a call may take that is made again: one that was killed has shown long before what it waits
// for.
func Timeout(call cni.Call) time.Duration {
	if call.Failure != "" {
		return 3 * time.Second
	}
	return cni.DefaultTimeout
}

// random are the words that change from run to run: addresses, container ids, names of links and of files.
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

// Evidence shows the refusals; none without any.
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

// Reason says, after the reason of a failure, what the kernel refused; empty where it is not known that this decided.
func (e Explanation) Reason() string {
	if !e.Named || len(e.EndedBy) == 0 {
		return ""
	}
	return "; the kernel refused " + e.EndedBy[len(e.EndedBy)-1].String()
}

// Unfit returns the error of a kernel that lacks what was asked for; nil where it lacks nothing.
func (e Explanation) Unfit() error {
	if e.Lacks == nil {
		return nil
	}
	last := e.EndedBy[len(e.EndedBy)-1]
	return &cluster.UnfitError{
		Lacks:  e.Lacks.String(),
		Reason: fmt.Sprintf("%s: this kernel lacks %s, for which %s asks: %s", e.node, e.Lacks, last.Program, last),
	}
}
