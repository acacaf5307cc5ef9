package cri

import (
	"context"
	"errors"
	"path"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/duty"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

// DriverName is the name of Driver in results.
const DriverName = "containerd"

// dutyDir has the networks of duties on the node.
const dutyDir = "/etc/cni/duty.d"

// Driver is containerd as a runtime that is asked for its duties. Pods are sandboxes: ADD is RunPodSandbox, DEL is
// StopPodSandbox and RemovePodSandbox, STATUS is the condition NetworkReady.
type Driver struct {
	containerd *Containerd
	node       *agent.Client
	files      []string
}

// NewDriver starts a containerd on a node of StartNodes.
func (b *Backend) NewDriver(ctx context.Context, nodes netns.Lab, node *cluster.Node) (*Driver, error) {
	if err := node.Agent.InstallStubs(ctx); err != nil {
		return nil, err
	}
	c, err := b.tools.start(ctx, nodes, node, Configuration{BinDirs: []string{stub.Dir}, ConflistDir: dutyDir})
	if err != nil {
		return nil, err
	}
	return &Driver{containerd: c, node: node.Agent}, nil
}

// Name returns DriverName.
func (d *Driver) Name() string { return DriverName }

// Lacks returns what the CRI has no words for.
func (d *Driver) Lacks(ability duty.Ability) string {
	switch ability {
	case duty.CanCheck, duty.CanGC:
		return "the CRI has no call for " + string(ability) + ", and containerd does not call it by itself"
	case duty.CanStatus:
		if d.containerd.tools.first() {
			return "containerd " + d.containerd.tools.version + " knows no CNI 1.1.0, and so no STATUS"
		}
	case duty.TakesID:
		return "containerd chooses the ids of sandboxes"
	case duty.TakesName:
		return "containerd chooses the names of interfaces"
	case duty.TakesArgs:
		return "containerd makes the arguments of the pod's name and namespace"
	case duty.TakesCapabilities:
		return "the CRI has port mappings, bandwidth and DNS, and no other capability"
	}
	return ""
}

// Use replaces the files while containerd does not run, so that it reads them at its start.
func (d *Driver) Use(ctx context.Context, files map[string]string) error {
	if err := d.containerd.Stop(ctx); err != nil {
		return err
	}
	for _, name := range d.files {
		if err := d.node.RemoveFile(ctx, name); err != nil {
			return err
		}
	}
	d.files = nil
	for name, text := range files {
		file := agent.File{Path: path.Join(dutyDir, name), Mode: 0o644, Data: []byte(text)}
		if err := d.node.WriteFile(ctx, file); err != nil {
			return err
		}
		d.files = append(d.files, file.Path)
	}
	return d.containerd.Up(ctx)
}

// Restart kills containerd and starts it again.
func (d *Driver) Restart(ctx context.Context) error {
	return errors.Join(d.containerd.Kill(ctx), d.containerd.Up(ctx))
}

// Run asks containerd.
func (d *Driver) Run(ctx context.Context, op duty.Operation) (answer duty.Answer, err error) {
	switch op.Verb {
	case cni.Add:
		answer.Text, err = d.containerd.Run(ctx, Sandbox{Pod: op.Pod})
	case cni.Del:
		err = d.containerd.Remove(ctx, op.Pod)
	case cni.Status:
		var conditions map[string]string
		conditions, err = d.containerd.Conditions(ctx)
		answer.Text = conditions[networkReady]
		answer.Failed = answer.Text != ""
	}
	var refused *CallError
	if ctx.Err() == nil && errors.As(err, &refused) && !slices.Contains(unanswered(), refused.Code) {
		return duty.Answer{Failed: true, Text: err.Error()}, nil
	}
	return answer, err
}

// unanswered are the codes of calls that containerd did not answer.
func unanswered() []codes.Code { return []codes.Code{codes.Unavailable, codes.Canceled} }
