package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// install replaces the programs on a node by those of another version.
func (r *Runner) install(ctx context.Context, s scenario.Install) error {
	node := r.Env.Node(scenario.NodePlace + "/" + s.Node)
	args := agent.InstallArgs{
		From: cluster.NewPrograms, To: node.BinDirs[0], Names: r.config.Upgraded, How: agent.InstallRenamed,
	}
	if r.daemons.old[node.Name] = s.Version == scenario.OldVersion; r.daemons.old[node.Name] {
		args.From = cluster.OldPrograms
	}
	if s.How == scenario.InstallCopied {
		args.How = agent.InstallCopied
	}
	replace := []func() error{
		func() error { return node.Agent.Install(ctx, args) },
		func() error { return r.configure(node, s.Version) },
	}
	if s.How == scenario.InstallConflistFirst {
		slices.Reverse(replace)
	}
	if s.During == "" {
		return cmp.Or(replace[0](), replace[1]())
	}
	begin := replace[0]
	if s.How == scenario.InstallCopied {
		half := args
		half.How = agent.InstallHalf
		begin = func() error { return node.Agent.Install(ctx, half) }
	}
	if err := begin(); err != nil {
		return err
	}
	failed, err := r.addMeanwhile(ctx, s.During)
	if s.How == scenario.InstallCopied {
		err = errors.Join(err, replace[0]())
	}
	if err := errors.Join(err, replace[1]()); err != nil {
		return err
	}
	for _, p := range failed {
		// A runtime gives up the sandbox whose ADD failed, and makes another one.
		if err := r.Del(ctx, p, scenario.DefaultInterface, Deletion{}); err != nil {
			return fmt.Errorf("after an ADD in the middle of the installation: %w", err)
		}
		if err := cmp.Or(r.RemoveNamespace(ctx, p), r.Add(ctx, p, scenario.DefaultInterface)); err != nil {
			return fmt.Errorf("after an ADD in the middle of the installation: %w", err)
		}
	}
	return nil
}

// configure gives a node, and the runtime for all its pods, the conflist of a version. Runtimes call DEL with the
// conflist that they have then, not with the one of ADD.
func (r *Runner) configure(node *cluster.Node, version string) error {
	if r.config.Old == nil {
		return nil
	}
	if r.current == nil {
		r.current = map[string][]byte{}
	}
	if r.current[node.Name] == nil {
		r.current[node.Name] = node.Conflist
	}
	list, at := r.current[node.Name], r.config.Conflist.CNIVersion
	if version == scenario.OldVersion {
		rendered, err := conflist.ParseRendered(list)
		if err != nil {
			return err
		}
		if list, err = rendered.Earlier(r.config.Old); err != nil {
			return err
		}
		at = r.config.Old.CNIVersion
	}
	node.Conflist = list
	for _, p := range r.Env.Pods {
		if p.Node != node {
			continue
		}
		if p.Network.Own {
			p.Network.Conflist, p.Network.CNIVersion = list, at
		}
		for name, network := range p.Networks {
			if network.Own {
				network.Conflist, network.CNIVersion = list, at
				p.Networks[name] = network
			}
		}
	}
	return nil
}

// addMeanwhile attaches pods while programs are half-written. It returns those whose ADD failed.
func (r *Runner) addMeanwhile(ctx context.Context, place string) ([]*environment.Pod, error) {
	var mu sync.Mutex
	var failed []*environment.Pod
	err := r.eachPod(ctx, place, func(ctx context.Context, p *environment.Pod) error {
		err := r.Add(ctx, p, scenario.DefaultInterface)
		var refused *cni.Error
		if !errors.As(err, &refused) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		failed = append(failed, p)
		return nil
	})
	slices.SortFunc(failed, func(a, b *environment.Pod) int { return strings.Compare(a.Name, b.Name) })
	return failed, err
}
