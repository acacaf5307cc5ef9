package e2e

import (
	"context"
	"errors"
	"fmt"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
)

// Prepare makes a first cluster, finds out whether scenarios can run at all, and what a first attachment leaves on a
// node. A *cluster.UnfitError says that they cannot run.
func (s *Suite) Prepare(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil || s.obstacle != nil {
		return err
	}
	return s.residue.First(ctx)
}

// prepare makes the first cluster and the first attachment.
func (s *Suite) prepare(ctx context.Context) error {
	c, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	hello, err := c.Nodes()[0].Agent.Hello(ctx)
	if err != nil {
		return err
	}
	s.report.Kernel = hello.Kernel
	s.report.Notes = append(s.report.Notes, c.Notes()...)
	s.report.Lab = labOf(c)
	s.obstacle, err = s.attachPlainly(ctx, c)
	if err == nil && s.obstacle != nil {
		s.add(*s.obstacle)
	}
	return err
}

// start makes the first cluster, and checks that its kernel has the links that the upstream plugins of the chain make
// and what the dataplane needs.
// The caller closes the cluster.
func (s *Suite) start(ctx context.Context) (cluster.Cluster, error) {
	if missing := s.file.InPod(); missing != "" {
		return nil, &cluster.UnfitError{Reason: missing + "; the suite's pods have no such link, and it tests " +
			"the rest of the file without that key"}
	}
	c, err := s.options.Backend.Start(ctx, s.request(environment.PlainNodes(), scenario.Chain{}))
	if err != nil {
		return nil, &cluster.UnfitError{Reason: err.Error()}
	}
	var kinds []string
	for _, name := range s.file.Types() {
		if kind, ok := linkKinds()[name]; ok {
			kinds = append(kinds, kind)
		}
	}
	if kind := s.options.Nodes.UplinkKind; kind == "dummy" || kind == "vlan" {
		kinds = append(kinds, kind)
	}
	for _, node := range c.Nodes() {
		missing, err := node.Agent.LinkKinds(ctx, kinds)
		if err == nil && len(missing) > 0 {
			err = kernelLacks(fault.LinkKind(missing[0])).unfit(node, s.options.Conflist)
		}
		if err == nil && s.options.Nodes.Dataplane == service.IPVS {
			err = missingIPVS(ctx, node)
		}
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// lack is a feature that a node may lack, who lacks it then, and how to mend that.
type lack struct {
	fault.Feature
	who, cure string
}

func kernelLacks(f fault.Feature) lack {
	return lack{f, "this kernel", "load the module or use another kernel"}
}

// unfit returns the error for a node that lacks the feature, which user needs.
func (l lack) unfit(node *cluster.Node, user string) *cluster.UnfitError {
	return &cluster.UnfitError{
		Lacks:  l.String(),
		Reason: fmt.Sprintf("%s: %s lacks %s, which %s needs; %s", node.Name, l.who, l.Feature, user, l.cure),
	}
}

// missingIPVS returns a *cluster.UnfitError if a node cannot have services by IPVS.
func missingIPVS(ctx context.Context, node *cluster.Node) error {
	for _, need := range []lack{
		kernelLacks(fault.IPVS()), kernelLacks(fault.LinkKind("dummy")),
		// A kernel has the setting only where root of the machine is root, too (netfilter/ipvs/ip_vs_ctl.c).
		{fault.Feature{Kind: fault.SysctlFeature, Name: "net/ipv4/vs/conntrack"}, "a user namespace", "run cnitest as root"},
	} {
		lacks, err := node.Agent.Lacks(ctx, need.Feature)
		if err != nil {
			return err
		}
		if lacks {
			return need.unfit(node, "--dataplane "+service.IPVS)
		}
	}
	return nil
}
