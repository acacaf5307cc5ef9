package runner

import (
	"context"
	"errors"
	"slices"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/refusal"
)

// failedCall is the error of a verb, and the call by which it failed.
type failedCall struct {
	error
	node *cluster.Node
	// pod is the pod of the call; nil for a verb without an attachment.
	pod     *environment.Pod
	request cni.Request
	call    cni.Call
}

// Unwrap returns the error without the call.
func (f *failedCall) Unwrap() error { return f.error }

// withCall adds to the error of a verb the first of its calls that failed, if one did.
func (f failedCall) withCall(calls []cni.Call) error {
	i := slices.IndexFunc(calls, cni.Call.Failed)
	if i < 0 {
		return f.error
	}
	f.call = calls[i]
	return &f
}

// Explain finds out what the kernel refused to the call that caused an error. If no call did, or this cannot be found
// out, the explanation is empty.
func (r *Runner) Explain(ctx context.Context, err error) refusal.Explanation {
	var failed *failedCall
	if !errors.As(err, &failed) || ctx.Err() != nil {
		return refusal.Explanation{}
	}
	explain := func() (refusal.Explanation, error) { return refusal.Of(ctx, failed.node, failed.call) }
	if failed.call.Verb == cni.Add {
		explain = func() (refusal.Explanation, error) {
			return refusal.When(
				ctx,
				failed.node,
				failed.call,
				func() (*fault.Trace, error) { return r.addAgain(ctx, failed) },
			)
		}
	}
	explanation, err := explain()
	if err != nil {
		r.Env.Note("%s of %s could not be made again under a tracer: %v", failed.call.Verb, failed.call.Plugin, err)
	}
	return explanation
}

// addAgain attaches another pod like the one whose ADD failed, under the tracer, as a kubelet does with a new sandbox,
// and deletes it again. It returns the first call that fails; nil if none does.
func (r *Runner) addAgain(ctx context.Context, failed *failedCall) (trace *fault.Trace, err error) {
	p := r.Env.NewPod(failed.pod.Spec, failed.node, failed.pod.Namespace+"-again", "")
	p.Network = failed.pod.On(failed.request.IfName)
	l := &libcni{r}
	if err := l.makeNamespace(ctx, p); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.RemoveNamespace(ctx, p)) }()
	request := r.request(p, cni.Add, failed.request.IfName)
	request.Timeout = refusal.Timeout(failed.call)
	reply, err := p.Node.Agent.ExplainCNI(ctx, request)
	if err != nil {
		return nil, err
	}
	// A runtime deletes what it tried to attach. Whether that works is tested elsewhere.
	request.Verb = cni.Del
	_, err = p.Node.Agent.CNI(ctx, request)
	r.desk.Return(p.Node.Name, p.ContainerID(), request.IfName)
	return reply.Failed, err
}
