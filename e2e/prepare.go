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
	if s.obstacle, err = s.attachPlainly(ctx, c); err != nil {
		return err
	}
	if s.obstacle != nil {
		s.add(*s.obstacle)
		return nil
	}
	found, err := s.residue.First(ctx)
	s.report.Residue = append(s.report.Residue, found...)
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
			link := fault.LinkKind(missing[0])
			err = &cluster.UnfitError{
				Lacks: link.String(),
				Reason: fmt.Sprintf("%s: this kernel lacks %s, which %s needs; load the module or use another kernel",
					node.Name, link, s.options.Conflist),
			}
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

// missingIPVS returns a *cluster.UnfitError if a node cannot have services by IPVS.
func missingIPVS(ctx context.Context, node *cluster.Node) error {
	for _, need := range []struct {
		feature    fault.Feature
		what, cure string
	}{
		{fault.IPVS(), "this kernel lacks %s", "load the module or use another kernel"},
		{fault.LinkKind("dummy"), "this kernel lacks %s", "load the module or use another kernel"},
		// A kernel has the setting only where root of the machine is root, too (netfilter/ipvs/ip_vs_ctl.c).
		{
			fault.Feature{Kind: fault.SysctlFeature, Name: "net/ipv4/vs/conntrack"},
			"a user namespace lacks %s", "run cnitest as root",
		},
	} {
		lacks, err := node.Agent.Lacks(ctx, need.feature)
		if err != nil {
			return err
		}
		if lacks {
			return &cluster.UnfitError{
				Lacks: need.feature.String(),
				Reason: fmt.Sprintf("%s: "+need.what+", which --dataplane ipvs needs; %s", node.Name, need.feature,
					need.cure),
			}
		}
	}
	return nil
}
