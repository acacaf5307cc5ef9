package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/runner"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// attachPlainly attaches one pod as the conflist says, before anything else. It returns a result if ADD was refused,
// since most other results would only repeat that; nil if the pod was attached, or if something else than a refusal
// went wrong, which scenarios report. A *cluster.UnfitError says that the node's kernel, and no plugin, is to blame.
func (s *Suite) attachPlainly(ctx context.Context, c cluster.Cluster) (*report.Result, error) {
	if cluster.RuntimeOf(c) != nil {
		return nil, nil // a kubelet tries again and again, and tells no calls
	}
	nodes := environment.PlainNodes()
	plain := &scenario.Scenario{
		Name: contract.FirstAttachment, Nodes: nodes, Pods: []scenario.Pod{{Name: "first", Node: nodes[0].Name}},
	}
	r := runner.New(s.runnerConfig(), environment.New(plain, c))
	if err := r.Prepare(ctx); err != nil {
		return nil, fmt.Errorf("the lab could not be made: %w", err)
	}
	pod := r.Env.Pods[0]
	err := r.Add(ctx, pod, scenario.DefaultInterface)
	if err == nil {
		s.checkPlainly(ctx, r, pod)
	}
	calls := r.CallEvidence(0)
	explanation := r.Explain(ctx, err)
	// Other results say what it leaves, and whether DEL succeeds. On machines that exist once it must be deleted.
	_ = r.Del(ctx, pod, scenario.DefaultInterface, runner.Deletion{})
	if err := r.RemoveNamespace(ctx, pod); err != nil {
		return nil, err
	}
	var refused *cni.Error
	if !errors.As(err, &refused) {
		return nil, nil
	}
	if unfit := explanation.Unfit(); unfit != nil {
		return nil, fmt.Errorf("%s: %w", s.options.Conflist, unfit)
	}
	result := &report.Result{
		ID: contract.FirstAttachment, Kind: "requirement", Plugin: report.Chain, Level: report.Must,
		Result: report.Fail, Covers: []string{},
		Reason:   err.Error() + explanation.Reason() + s.withoutAPI(pod.Node),
		Evidence: append(explanation.Evidence(), calls...),
	}
	if s.report.Counts(report.Result{Plugin: refused.Plugin}) {
		result.Plugin = refused.Plugin
	}
	return result, nil
}

// withoutAPI returns what to do if a plugin may have failed for want of a Kubernetes API; empty if it wants none, or
// has one.
func (s *Suite) withoutAPI(node *cluster.Node) string {
	asks := len(conflist.Kubeconfigs(node.Conflist)) > 0 ||
		slices.ContainsFunc(s.file.Plugins, func(p conflist.Plugin) bool { return p.IPAM == "whereabouts" })
	if s.options.Target.API() != nil || !asks {
		return ""
	}
	return "; it keeps what it knows in a Kubernetes API, and the lab has none: a target file with `kubernetes` adds " +
		"one (e2e/README.md)"
}

// checkPlainly notes when CHECK fails for a pod that was attached just now and that nobody touched: many scenarios fail
// with it then, whatever else they are about. A busy machine may delay the kernel's part of an ADD, so it asks twice.
func (s *Suite) checkPlainly(ctx context.Context, r *runner.Runner, pod *environment.Pod) {
	if r.Lacks(cni.Check) || s.file.DisableCheck {
		return
	}
	var refused *cni.Error
	for range 2 {
		if err := r.Check(ctx, pod, scenario.DefaultInterface); !errors.As(err, &refused) {
			return
		}
	}
	s.note("CHECK fails for a pod right after ADD (%v), and scenarios that call it fail with it; with "+
		"\"disableCheck\": true in the conflist runtimes, and this suite, leave CHECK out", refused)
}

// TryAttachment makes a first cluster and attaches one pod, as a run does before anything else. It returns why ADD was
// refused, or nil if the pod was attached. A *cluster.UnfitError says that this machine lacks something.
func (s *Suite) TryAttachment(ctx context.Context) (*report.Result, error) {
	c, err := s.start(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return s.attachPlainly(ctx, c)
}

// blocks marks a result as blocked by the first attachment, and reports whether it did. alone says that the result
// needs no attachment.
func (s *Suite) blocks(result *report.Result, alone bool) bool {
	if s.obstacle == nil || alone {
		return false
	}
	result.Result, result.BlockedBy, result.Evidence = report.Blocked, s.obstacle.ID, nil
	result.Reason = "blocked by " + s.obstacle.ID + ": " + s.obstacle.Reason
	return true
}
