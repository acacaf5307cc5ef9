package contract

import (
	"context"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/internal/refusal"
)

// explainedCall is a failed call and what the kernel refused to it.
type explainedCall struct {
	cni.Call
	refusal.Explanation
}

// explained records what the kernel refused to a call.
func (s *Subject) explained(call cni.Call, explanation refusal.Explanation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, explainedCall{call, explanation})
}

// explanation returns what the kernel refused to a call; empty if the call did not fail.
func (s *Subject) explanation(call cni.Call) refusal.Explanation {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.refused {
		if e.Stdin == call.Stdin && e.Duration == call.Duration && slices.Equal(e.Env, call.Env) {
			return e.Explanation
		}
	}
	return refusal.Explanation{}
}

// must makes a call that the subject must not fail. If it fails, must finds out at once what the kernel refused to it.
func (b *bench) must(ctx context.Context, verb cni.Verb, p *pod, edits ...func(*invocation)) (cni.Call, error) {
	call, err := b.call(ctx, verb, p, edits...)
	if err != nil {
		return call, err
	}
	return call, b.explain(ctx, call, p, edits)
}

// explain records what the kernel refused to a failed call. If the kernel lacks a feature, it returns an error, since
// nothing can then be said about the plugin.
func (b *bench) explain(ctx context.Context, call cni.Call, p *pod, edits []func(*invocation)) (err error) {
	var explanation refusal.Explanation
	switch {
	case !call.Failed():
		return nil
	case call.Verb == cni.Add:
		explanation, err = refusal.When(
			ctx,
			b.node,
			call,
			func() (*fault.Trace, error) { return b.addAgain(ctx, call, p, edits) },
		)
	default:
		explanation, err = refusal.Of(ctx, b.node, call)
	}
	if err != nil {
		return err
	}
	b.subject.explained(call, explanation)
	return explanation.Unfit()
}

// addAgain attaches another pod like the one whose ADD failed, under the tracer, and deletes it again.
func (b *bench) addAgain(
	ctx context.Context,
	failed cni.Call,
	p *pod,
	edits []func(*invocation),
) (*fault.Trace, error) {
	again, err := b.pod(ctx, p.name+"-again")
	if err != nil {
		return nil, err
	}
	args, err := b.arguments(b.subjectInvocation(cni.Add, again, edits...))
	if err != nil {
		return nil, err
	}
	args.Timeout = refusal.Timeout(failed)
	trace, err := b.node.Agent.Trace(ctx, agent.FaultArgs{PluginArgs: args, Explain: true})
	if err != nil {
		return nil, err
	}
	if _, err := b.exec(ctx, b.subjectInvocation(cni.Del, again, edits...)); err != nil {
		return nil, err
	}
	b.brought.Return(b.node.Name, again.id, again.ifName)
	return &trace, b.end(ctx, again)
}
