package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// releaseStep gives back the addresses of the pods of a place.
func (r *Runner) releaseStep(ctx context.Context, s scenario.Step) error {
	return r.eachPod(ctx, s.Release, func(ctx context.Context, p *environment.Pod) error {
		return r.release(ctx, p, ifName(s.As))
	})
}

// release runs DEL of the IPAM plugin alone, with the configuration of the plugin that delegates to it (SPEC.md,
// section 4).
func (r *Runner) release(ctx context.Context, p *environment.Pod, ifName string) error {
	list, err := conflist.ParseRendered(p.On(ifName).Conflist)
	if err != nil {
		return err
	}
	plugin, delegating := list.IPAM()
	if plugin == "" {
		return errors.New("no plugin of the chain has an IPAM plugin")
	}
	stdin, err := list.Input(delegating)
	if err != nil {
		return err
	}
	call, err := p.Node.Agent.Plugin(ctx, agent.PluginArgs{
		Plugin: plugin, BinDirs: p.Node.BinDirs, Stdin: stdin,
		Env: []string{
			"CNI_COMMAND=DEL", "CNI_CONTAINERID=" + p.ContainerID(), "CNI_NETNS=" + p.Netns, "CNI_IFNAME=" + ifName,
			"CNI_PATH=" + strings.Join(p.Node.BinDirs, ":"),
		},
	})
	if err != nil {
		return err
	}
	r.keep(p.Node, agent.CNIReply{Outcome: cni.Outcome{Calls: []cni.Call{call}}})
	if call.ExitCode != 0 {
		refused := &cni.Error{Plugin: plugin, Msg: strings.TrimSpace(call.Stdout + call.Failure)}
		err := fmt.Errorf("%s: DEL of %s alone: %w", p.Name, plugin, refused)
		return failedCall{error: err, node: p.Node, pod: p}.withCall([]cni.Call{call})
	}
	r.desk.ReturnAddresses(p.Node.Name, p.ContainerID(), ifName)
	p.SetReleased(ifName)
	return nil
}
