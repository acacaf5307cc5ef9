package cri

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// Namespace is the Kubernetes namespace of the pods.
const Namespace = "cnitest"

// callTimeout limits a call of the CRI, in time that the machine gave. A kubelet waits two minutes by default.
const callTimeout = 60 * time.Second

// Sandbox is a pod that containerd is asked for.
type Sandbox struct {
	// Pod is the name of the pod, and so its K8S_POD_NAME.
	Pod string
	// Attempt tells sandboxes of a pod apart: a kubelet that makes another one counts up.
	Attempt uint32
	// Ports are ports of the node that lead to the pod.
	Ports []*criapi.PortMapping
}

// labelPod is the label by which sandboxes of a pod are found, as a kubelet does.
const labelPod = "io.kubernetes.pod.name"

// Run makes a sandbox and returns its id. If it fails containerd may still have the sandbox: Remove it.
func (c *Containerd) Run(ctx context.Context, s Sandbox) (id string, err error) {
	ctx, cancel := machinetime.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := c.api.RunPodSandbox(ctx, &criapi.RunPodSandboxRequest{Config: &criapi.PodSandboxConfig{
		Metadata: &criapi.PodSandboxMetadata{
			Name: s.Pod, Namespace: Namespace, Uid: s.Pod + "-uid", Attempt: s.Attempt,
		},
		Hostname: s.Pod, Labels: map[string]string{labelPod: s.Pod}, PortMappings: s.Ports,
		Linux: &criapi.LinuxPodSandboxConfig{SecurityContext: &criapi.LinuxSandboxSecurityContext{
			NamespaceOptions: &criapi.NamespaceOption{
				Network: criapi.NamespaceMode_POD, Pid: criapi.NamespaceMode_CONTAINER, Ipc: criapi.NamespaceMode_NODE,
			},
		}},
	}})
	if err != nil {
		return "", c.failed("RunPodSandbox of "+s.Pod, err)
	}
	return reply.GetPodSandboxId(), nil
}

// Remove stops and removes all sandboxes of a pod, as a kubelet does. A pod without any is no error.
func (c *Containerd) Remove(ctx context.Context, pod string) error {
	ctx, cancel := machinetime.WithTimeout(ctx, callTimeout)
	defer cancel()
	ids, err := c.Sandboxes(ctx, pod)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if err := c.StopSandbox(ctx, id); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, c.removeSandbox(ctx, id))
	}
	return errors.Join(errs...)
}

// StopSandbox ends a sandbox, and with it its network.
func (c *Containerd) StopSandbox(ctx context.Context, id string) error {
	_, err := c.api.StopPodSandbox(ctx, &criapi.StopPodSandboxRequest{PodSandboxId: id})
	return c.failed("StopPodSandbox", err)
}

// removeSandbox forgets a sandbox that was stopped.
func (c *Containerd) removeSandbox(ctx context.Context, id string) error {
	_, err := c.api.RemovePodSandbox(ctx, &criapi.RemovePodSandboxRequest{PodSandboxId: id})
	return c.failed("RemovePodSandbox", err)
}

// Sandboxes returns the ids of the sandboxes of a pod, whatever their state.
func (c *Containerd) Sandboxes(ctx context.Context, pod string) ([]string, error) {
	reply, err := c.api.ListPodSandbox(ctx, &criapi.ListPodSandboxRequest{
		Filter: &criapi.PodSandboxFilter{LabelSelector: map[string]string{labelPod: pod}},
	})
	if err != nil {
		return nil, c.failed("ListPodSandbox", err)
	}
	var ids []string
	for _, item := range reply.GetItems() {
		ids = append(ids, item.GetId())
	}
	return ids, nil
}

// networkReady is the condition of containerd's network: it says what STATUS of the plugins says.
const networkReady = "NetworkReady"

// Conditions returns what containerd says about itself, as kubelets ask it every five seconds: by condition
// (RuntimeReady, NetworkReady) nothing, or why it does not hold.
func (c *Containerd) Conditions(ctx context.Context) (map[string]string, error) {
	reply, err := c.api.Status(ctx, &criapi.StatusRequest{})
	if err != nil {
		return nil, c.failed("Status", err)
	}
	conditions := map[string]string{}
	for _, condition := range reply.GetStatus().GetConditions() {
		conditions[condition.GetType()] = ""
		if !condition.GetStatus() {
			conditions[condition.GetType()] = strings.TrimSpace(condition.GetReason() + ": " + condition.GetMessage())
		}
	}
	return conditions, nil
}

// CallError is the error of a call of the CRI. It wraps a *cni.Error if a plugin is to blame.
type CallError struct {
	// Node and Call say what was called.
	Node, Call string
	Code       codes.Code
	Err        error
}

// Error names the node, the call, and what containerd says.
func (e *CallError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Node, e.Call, e.Err) }

// Unwrap returns what containerd says.
func (e *CallError) Unwrap() error { return e.Err }

// failed returns the error of a call; nil for nil.
func (c *Containerd) failed(call string, err error) error {
	if err == nil {
		return nil
	}
	text := status.Convert(err).Message()
	said := errors.New(text)
	if at := failedPlugin.FindStringSubmatchIndex(text); at != nil {
		said = fmt.Errorf("%s%w", text[:at[0]], &cni.Error{Plugin: text[at[2]:at[3]], Msg: text[at[1]:]})
	}
	return &CallError{Node: c.node.Name, Call: call, Code: status.Code(err), Err: said}
}

// failedPlugin finds the plugin and its error in the text of libcni's (types.Error of containernetworking/cni).
var failedPlugin = regexp.MustCompile(`plugin type="([^"]+)" failed \([a-z]+\): `)
