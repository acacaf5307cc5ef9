package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// callsShown bounds the number of calls that are shown of a failed step: a step with many pods has hundreds.
const callsShown = 6

// CallEvidence shows the calls since the given one, failed ones first if there are many; if there are none, the last
// call before.
func (r *Runner) CallEvidence(since int) []report.Evidence {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls[min(since, len(r.calls)):]
	if len(calls) == 0 {
		calls = r.calls[max(0, len(r.calls)-2):]
	}
	shown := calls
	if len(calls) > callsShown {
		shown = nil
		for _, c := range calls {
			if c.ExitCode != 0 && len(shown) < callsShown {
				shown = append(shown, c)
			}
		}
		if shown == nil {
			shown = calls[len(calls)-callsShown:]
		}
	}
	return CallsText(shown)
}

// CallsText shows calls one by one.
func CallsText(calls []cni.Call) []report.Evidence {
	var evidence []report.Evidence
	for _, c := range calls {
		evidence = append(evidence, report.Evidence{
			Title: fmt.Sprintf("%s %s", c.Plugin, c.Verb), Text: c.Transcript(),
		})
	}
	return evidence
}

// StateEvidence returns how the nodes differ from their state before the first step.
func (r *Runner) StateEvidence(ctx context.Context) []report.Evidence {
	var evidence []report.Evidence
	for _, node := range r.Env.Cluster.Nodes() {
		state, ok := r.Env.States[node.Name]
		if !ok {
			continue
		}
		now, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Namespaces: r.namespaces(node.Name)})
		if err != nil {
			continue
		}
		var lines []string
		for _, c := range snapshot.Diff(state.Before, now) {
			lines = append(lines, c.String())
		}
		if len(lines) > 0 {
			evidence = append(evidence, report.Evidence{
				Title: "state of " + node.Name + " against the start", Text: strings.Join(lines, "\n"),
			})
		}
	}
	return evidence
}

// namespacesShown bounds the number of pods whose state is shown.
const namespacesShown = 4

func (r *Runner) namespaces(node string) map[string]string {
	scopes := map[string]string{}
	for _, p := range r.Env.Pods {
		if p.Exists && p.Node.Name == node && len(scopes) < namespacesShown {
			scopes[p.Name] = p.Netns
		}
	}
	return scopes
}

// Calls returns the number of calls so far, for CallEvidence.
func (r *Runner) Calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

// CallsOf returns the calls that match, in the order in which they ended.
func (r *Runner) CallsOf(matches func(cni.Call) bool) []cni.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []cni.Call
	for _, c := range r.calls {
		if matches(c) {
			found = append(found, c)
		}
	}
	return found
}

// Forget drops the calls that match: the calls of a long soak would fill the memory.
func (r *Runner) Forget(matches func(cni.Call) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = slices.DeleteFunc(r.calls, matches)
}
