package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/report"
)

// Explanation is what a call that failed asked of the kernel in vain.
type Explanation struct {
	// EndedBy are the refusals by which the call ended, the last one last; none where no plugin can be traced, or where
	// the kernel refused nothing.
	EndedBy []fault.Refusal
	// Lacks is the feature that the kernel was asked for and does not have, whoever asks; nil where it is the plugin's
	// affair.
	Lacks *fault.Feature
}

// Evidence shows the refusals; none without any.
func (e Explanation) Evidence() []report.Evidence {
	var lines []string
	for _, refusal := range e.EndedBy {
		lines = append(lines, fmt.Sprintf("%s: %s", refusal.Program, refusal))
	}
	if lines == nil {
		return nil
	}
	return []report.Evidence{{
		Title: "what the kernel refused, when the call was made again under a tracer", Text: strings.Join(lines, "\n"),
	}}
}

// Last returns the refusal that decided, or nil.
func (e Explanation) Last() *fault.Refusal {
	if len(e.EndedBy) == 0 {
		return nil
	}
	return &e.EndedBy[len(e.EndedBy)-1]
}

// ExplainAdd attaches a pod that was never attached, each plugin under a tracer, and deletes it again. It is for nodes
// on which agents run the plugins.
func (r *Runner) ExplainAdd(ctx context.Context, p *environment.Pod, ifName string) (found Explanation, err error) {
	agent := p.Node.Agent
	if reason, err := agent.CanTrace(ctx); err != nil || reason != "" {
		return found, err
	}
	l := &libcni{r}
	if err := l.makeNamespace(ctx, p); err != nil {
		return found, err
	}
	defer func() {
		err = errors.Join(err, r.RemoveNamespace(ctx, p))
	}()
	request := r.request(p, cni.Add, ifName)
	reply, err := agent.ExplainCNI(ctx, request)
	if err != nil {
		return found, err
	}
	found.EndedBy = reply.EndedBy
	for _, refusal := range reply.EndedBy {
		if refusal.Feature == nil {
			continue
		}
		// A lack is one only where the kernel says so to others too.
		missing, err := agent.Lacks(ctx, *refusal.Feature)
		if err != nil {
			return found, err
		}
		if missing {
			found.EndedBy, found.Lacks = []fault.Refusal{refusal}, refusal.Feature
			break
		}
	}
	// A runtime deletes what it tried to attach; that this may fail too is for others to tell.
	request.Verb = cni.Del
	_, err = agent.CNI(ctx, request)
	return found, err
}
