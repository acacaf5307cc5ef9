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
	if s.During == "" {
		return node.Agent.Install(ctx, args)
	}
	half := args
	half.How = agent.InstallHalf
	if err := node.Agent.Install(ctx, half); err != nil {
		return err
	}
	failed, err := r.addMeanwhile(ctx, s.During)
	if err := errors.Join(err, node.Agent.Install(ctx, args)); err != nil {
		return err
	}
	for _, p := range failed {
		// A runtime gives up the sandbox whose ADD failed, and makes another one.
		if err := r.Del(ctx, p, scenario.DefaultInterface, Deletion{}); err != nil {
			return fmt.Errorf("after an ADD by half-written programs: %w", err)
		}
		if err := cmp.Or(r.RemoveNamespace(ctx, p), r.Add(ctx, p, scenario.DefaultInterface)); err != nil {
			return fmt.Errorf("after an ADD by half-written programs: %w", err)
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
