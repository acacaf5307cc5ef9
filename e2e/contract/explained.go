package contract

import (
	"context"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/internal/refusal"
)

// explainedCall is a call that failed and what the kernel refused it.
type explainedCall struct {
	cni.Call
	refusal.Explanation
}

// explained keeps what the kernel refused a call.
func (s *Subject) explained(call cni.Call, explanation refusal.Explanation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, explainedCall{call, explanation})
}

// explanation returns what the kernel refused a call; nothing where it did not fail.
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

// must asks the subject for what it has to do. Where it fails, it is found out at once what the kernel refused it.
func (b *bench) must(ctx context.Context, verb cni.Verb, p *pod, edits ...func(*invocation)) (cni.Call, error) {
	call, err := b.call(ctx, verb, p, edits...)
	if err != nil {
		return call, err
	}
	return call, b.explain(ctx, call, p, edits)
}

// explain keeps what the kernel refused a call that failed, for whoever judges it. A kernel that lacks something is an
// error: nothing can be said of the plugin then.
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
