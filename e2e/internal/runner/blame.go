package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/report"
)

// untrueResult is the error of an attachment whose result does not match the kernel.
type untrueResult struct {
	error
	pod    *environment.Pod
	ifName string
}

// Unwrap returns the error without the attachment.
func (u *untrueResult) Unwrap() error { return u.error }

// blame sets the plugin of a failure to the one that caused it: CHECK may notice what another plugin did, and no plugin
// reports an address that a later one took away. A plugin that the scenario itself adds to the chain is never blamed.
func (r *Runner) blame(ctx context.Context, err error, failure *environment.Failure) {
	var call *failedCall
	var untrue *untrueResult
	var pod *environment.Pod
	var ifName string
	switch {
	case ctx.Err() != nil:
		return
	case errors.As(err, &call) && call.pod != nil && call.request.Conflist != nil:
		pod, ifName = call.pod, call.request.IfName
	case errors.As(err, &untrue):
		pod, ifName = untrue.pod, untrue.ifName
	default:
		return
	}
	if _, ok := r.runtime.(*libcni); !ok {
		return
	}
	culprit, how := r.firstWrong(ctx, pod, ifName, call)
	if state := r.Env.States[pod.Node.Name]; culprit == "" && call != nil && call.call.Verb == cni.Check &&
		state != nil {
		culprit, how = state.Trespasser(call.call.Plugin)
	}
	if culprit == "" || culprit == failure.Plugin || !slices.Contains(r.config.Conflist.Types(), culprit) {
		return
	}
	failure.Plugin, failure.Err = culprit, fmt.Errorf("%w; %s", failure.Err, how)
	failure.Evidence = append([]report.Evidence{{Title: "which plugin caused it", Text: how}}, failure.Evidence...)
}

// firstWrong attaches new pods by the first plugin of a chain alone, by the first two, and so on. It returns the plugin
// with which something is wrong for the first time, and how that shows; nothing if all is right, or if the plugin's own
// ADD fails.
func (r *Runner) firstWrong(
	ctx context.Context, pod *environment.Pod, ifName string, call *failedCall,
) (plugin, how string) {
	list, err := conflist.ParseRendered(pod.On(ifName).Conflist)
	if err != nil || len(list.Plugins) < 2 {
		return "", ""
	}
	var types []string
	for i, p := range list.Plugins {
		name, _ := p["type"].(string)
		types = append(types, name)
		chain, err := list.Prefix(i + 1)
		if err != nil {
			return "", ""
		}
		attempt := func(name string) (wrong, err error) {
			p := r.Env.NewPod(pod.Spec, pod.Node, name, "")
			p.Network = pod.On(ifName)
			p.Network.Conflist = chain
			return r.live(ctx, p, ifName, call)
		}
		wrong, err := attempt(fmt.Sprintf("%s-by-%d", pod.Namespace, i+1))
		if err != nil && i == 0 && r.makeRoom(ctx, pod, ifName) {
			wrong, err = attempt(pod.Namespace + "-by-room")
		}
		switch {
		case err != nil:
			return "", "" // its ADD fails, or the lab
		case wrong == nil:
		case i == 0:
			return name, fmt.Sprintf("%s alone is wrong: %v", name, wrong)
		default:
			return name, fmt.Sprintf("%s caused it: everything is right with %s alone, and with %s after it: %v",
				name, strings.Join(types[:i], " + "), name, wrong)
		}
	}
	return "", ""
}

// makeRoom deletes another pod on the node of a pod, whose addresses or device a new one may need. It reports whether
// there was one.
func (r *Runner) makeRoom(ctx context.Context, pod *environment.Pod, ifName string) bool {
	for _, other := range slices.Backward(r.Env.Pods) {
		if other != pod && other.Node == pod.Node && slices.Contains(other.Valid(), ifName) {
			return r.runtime.detach(ctx, other, ifName, Deletion{}) == nil
		}
	}
	return false
}

// live attaches a pod, checks it and deletes it. It returns what is wrong with it and may have the same cause as the
// failed call. Its error says that nothing can be concluded.
func (r *Runner) live(ctx context.Context, p *environment.Pod, ifName string, cause *failedCall) (wrong, err error) {
	l := &libcni{r}
	if err := l.makeNamespace(ctx, p); err != nil {
		return nil, err
	}
	defer func() {
		r.desk.Return(p.Node.Name, p.ContainerID(), ifName)
		err = errors.Join(err, r.RemoveNamespace(ctx, p))
	}()
	do := func(verb cni.Verb) (*cni.Outcome, error) {
		request := r.request(p, verb, ifName)
		request.Trace = nil
		reply, err := p.Node.Agent.CNI(ctx, request)
		if failed := reply.Outcome.Failure; err == nil && failed != nil && cause.like(verb, failed.Plugin) {
			wrong = cmp.Or(wrong, fmt.Errorf("%s: %w", verb, failed))
		}
		return &reply.Outcome, err
	}
	added, err := do(cni.Add)
	if err == nil {
		err = added.Err()
	}
	if err == nil {
		wrong = r.accept(ctx, p, ifName, added.Result)
	}
	if err == nil && !r.lacks(p.On(ifName).CNIVersion, cni.Check) {
		_, err = do(cni.Check)
	}
	_, gone := do(cni.Del)
	return wrong, errors.Join(err, gone)
}

// like reports whether the failure of a verb of a plugin may have the same cause as the call that failed, which is nil
// for a result that does not match the kernel.
func (f *failedCall) like(verb cni.Verb, plugin string) bool {
	if f == nil || f.call.Verb == cni.Add {
		return verb == cni.Check
	}
	return f.call.Verb == verb && f.call.Plugin == plugin
}
