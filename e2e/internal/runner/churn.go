package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// churn attaches and deletes a pod in a loop, each time as a new one.
func (r *Runner) churn(ctx context.Context, c scenario.Churn) error {
	template := r.Env.PodsNamed(c.Pod)[0]
	deadline := time.Now().Add(time.Duration(c.For))
	for round := 0; round == 0 || time.Now().Before(deadline); round++ {
		p := r.Env.NewPod(template.Spec, template.Node, fmt.Sprintf("%s-%d", template.Namespace, round), "")
		p.Network = template.Network
		if err := r.churnOnce(ctx, p); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	return nil
}

func (r *Runner) churnOnce(ctx context.Context, p *environment.Pod) error {
	err := r.Add(ctx, p, scenario.DefaultInterface)
	return errors.Join(err, r.Del(ctx, p, scenario.DefaultInterface, Deletion{}), r.RemoveNamespace(ctx, p))
}
