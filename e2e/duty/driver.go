package duty

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

// DriverName is the name of Driver in results.
const DriverName = "cnitest"

// Driver is this suite's own runtime: the agent of a node, which runs plugins through libcni.
type Driver struct {
	agent *agent.Client
	files map[string]string
	pods  namespaces
}

// NewDriver returns the runtime of a node's agent.
func NewDriver(node *agent.Client) *Driver { return &Driver{agent: node, pods: newNamespaces(node)} }

// Name returns DriverName.
func (d *Driver) Name() string { return DriverName }

// Lacks returns what scenarios do in place of the agent.
func (d *Driver) Lacks(ability Ability) string {
	switch ability {
	case TakesFolder:
		return "the suite hands the agent one conflist, and reads no folder"
	case Restarts:
		return "the agent ends with its node"
	case Orders:
		return "the agent does what a scenario's next step says, and leaves the order to the scenario"
	}
	return ""
}

// Use keeps the files.
func (d *Driver) Use(_ context.Context, files map[string]string) error {
	d.files = files
	return nil
}

// Restart returns an error.
func (d *Driver) Restart(context.Context) error { return errors.New(d.Lacks(Restarts)) }

// Run asks the agent.
func (d *Driver) Run(ctx context.Context, op Operation) (Answer, error) {
	req := cni.Request{
		Verb: op.Verb, BinDirs: []string{stub.Dir}, ContainerID: cmp.Or(op.ContainerID, op.Pod),
		IfName: cmp.Or(op.IfName, "eth0"), Args: op.Args, CapabilityArgs: op.Capabilities,
	}
	for name, text := range d.files {
		if filepath.Ext(name) == ".conflist" {
			req.Conflist = []byte(text)
		}
	}
	for _, pod := range op.Valid {
		req.ValidAttachments = append(req.ValidAttachments, cni.Attachment{ContainerID: pod, IfName: req.IfName})
	}
	var err error
	if op.Verb == cni.GC || op.Verb == cni.Status {
		req.ContainerID, req.IfName = "", ""
	} else if req.Netns, err = d.pods.of(ctx, op.Pod); err != nil {
		return Answer{}, err
	}
	reply, err := d.agent.CNI(ctx, req)
	switch {
	case errors.Is(err, agent.ErrEnded), ctx.Err() != nil:
		return Answer{}, err
	case err != nil: // the conflist is refused
		return Answer{Failed: true, Text: err.Error()}, nil
	case reply.Outcome.Failure != nil:
		return Answer{Failed: true, Text: d.failures(reply.Outcome)}, nil
	}
	return Answer{Text: string(reply.Outcome.Result)}, nil
}

// failures returns the failure, and for a verb that goes on after errors those of every plugin.
func (d *Driver) failures(outcome cni.Outcome) string {
	text := outcome.Failure.Error()
	for _, c := range outcome.Calls {
		if c.Failed() {
			text += fmt.Sprintf("\n%s: %s", c.Plugin, c.Stdout)
		}
	}
	return text
}
