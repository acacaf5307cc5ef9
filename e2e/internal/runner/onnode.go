package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// gc runs GC with all valid attachments of a node.
func (r *Runner) gc(ctx context.Context, node *cluster.Node) error {
	if r.Lacks(cni.GC) {
		return nil
	}
	req := cni.Request{Verb: cni.GC, Conflist: node.Conflist, BinDirs: node.BinDirs}
	for _, p := range r.Env.Pods {
		if p.Node != node {
			continue
		}
		for _, name := range p.Valid() {
			if !p.On(name).Own {
				continue // it is of another network, which has a GC of its own
			}
			req.ValidAttachments = append(req.ValidAttachments, cni.Attachment{
				ContainerID: p.ContainerID(), IfName: name,
			})
		}
	}
	others, err := r.runtime.attachments(ctx, node)
	if err != nil {
		return err
	}
	req.ValidAttachments = append(req.ValidAttachments, others...)
	return r.onNode(ctx, node, req)
}

// statusStep runs STATUS until it answers as wanted.
func (r *Runner) statusStep(ctx context.Context, s scenario.Step) error {
	if r.Lacks(cni.Status) {
		return nil
	}
	return eventually(ctx, time.Duration(s.Within), func() error {
		return refused(s.Fails, r.status(ctx, r.Env.Node(s.Status)))
	})
}

// status runs STATUS once.
func (r *Runner) status(ctx context.Context, node *cluster.Node) error {
	return r.onNode(ctx, node, cni.Request{Verb: cni.Status, Conflist: node.Conflist, BinDirs: node.BinDirs})
}

// onNode runs a verb that concerns no attachment.
func (r *Runner) onNode(ctx context.Context, node *cluster.Node, req cni.Request) error {
	reply, err := node.Agent.CNI(ctx, req)
	if err != nil {
		return err
	}
	r.keep(node, reply)
	if err := reply.Outcome.Err(); err != nil {
		err = fmt.Errorf("%s: %s: %w", node.Name, req.Verb, err)
		return failedCall{error: err, node: node, request: req}.withCall(reply.Outcome.Calls)
	}
	return nil
}
