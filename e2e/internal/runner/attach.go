package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// addStep attaches the pods of a place.
func (r *Runner) addStep(ctx context.Context, s scenario.Step) (err error) {
	defer r.followPods(ctx, &err)
	return r.eachPod(ctx, s.Add, func(ctx context.Context, p *environment.Pod) error {
		return refused(s.Fails, r.Add(ctx, p, ifName(s.As)))
	})
}

// checkStep runs CHECK of the pods of a place.
func (r *Runner) checkStep(ctx context.Context, s scenario.Step) error {
	return r.eachPod(ctx, s.Check, func(ctx context.Context, p *environment.Pod) error {
		if r.lacks(p.On(ifName(s.As)).CNIVersion, cni.Check) {
			return nil
		}
		return refused(s.Fails, r.Check(ctx, p, ifName(s.As)))
	})
}

// delStep deletes attachments of the pods of a place.
func (r *Runner) delStep(ctx context.Context, s scenario.Step) (err error) {
	defer r.followPods(ctx, &err)
	return r.eachPod(ctx, s.Del, func(ctx context.Context, p *environment.Pod) error {
		return r.Del(ctx, p, ifName(s.As), Deletion{s.Netns, s.Cache})
	})
}

// Add attaches a pod as a runtime does for a new sandbox, and checks that the result is true. An error of a plugin is a
// *cni.Error.
func (r *Runner) Add(ctx context.Context, p *environment.Pod, ifName string) error {
	result, err := r.runtime.attach(ctx, p, ifName)
	if err != nil {
		return err
	}
	return r.accept(ctx, p, ifName, result)
}

// accept takes the addresses of a new attachment from the result of ADD, which must match the kernel.
func (r *Runner) accept(ctx context.Context, p *environment.Pod, ifName string, result json.RawMessage) error {
	addrs, err := parseAddresses(result, ifName)
	if err != nil {
		return fmt.Errorf("%s: result of ADD: %w", p.Name, err)
	}
	if len(addrs) == 0 && p.On(ifName).Own && r.config.Conflist.LayerTwo() {
		if addrs, err = r.setAddresses(ctx, p, ifName); err != nil {
			return err
		}
	}
	p.SetAddresses(ifName, addrs)
	if err := r.Env.CheckUnique(p, ifName); err != nil {
		return err
	}
	if err := r.checkResult(ctx, p, ifName, result); err != nil {
		return &untrueResult{err, p, ifName}
	}
	return r.checkAskedPort(ctx, p, ifName)
}

// parseAddresses returns the addresses that a result of any version gives the interface.
func parseAddresses(data json.RawMessage, ifName string) ([]netip.Addr, error) {
	result, err := cni.ParseResult(data)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		// Before 0.3.0 there are no interfaces: every address belongs to CNI_IFNAME.
		if ip.Interface != nil && len(result.Interfaces) > 0 {
			if *ip.Interface < 0 || *ip.Interface >= len(result.Interfaces) {
				return nil, fmt.Errorf("address %s is of interface %d, and there are %d", ip.Address.String(),
					*ip.Interface, len(result.Interfaces))
			}
			if iface := result.Interfaces[*ip.Interface]; iface.Name != ifName || iface.Sandbox == "" {
				continue
			}
		}
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return nil, fmt.Errorf("address %s is none", ip.Address.String())
		}
		addrs = append(addrs, addr.Unmap())
	}
	return addrs, nil
}

// checkResult checks that the kernel has what the result says (SPEC.md, section 5, ADD Success).
func (r *Runner) checkResult(ctx context.Context, p *environment.Pod, ifName string, data json.RawMessage) error {
	result, err := cni.ParseResult(data)
	if err != nil {
		return fmt.Errorf("%s: result of ADD: %w", p.Name, err)
	}
	links, err := p.Agent.Links(ctx, p.Netns)
	if err != nil {
		return err
	}
	own, found := agent.FindLink(links, ifName)
	if !found {
		return fmt.Errorf("%s: ADD succeeded and there is no interface %s in the pod", p.Name, ifName)
	}
	for _, addr := range p.Interfaces[ifName] {
		has := func(cidr string) bool { return strings.HasPrefix(cidr, addr.String()+"/") }
		if !slices.ContainsFunc(own.Addresses, has) {
			return fmt.Errorf("%s: the result gives %s to %s, which has %v", p.Name, addr, ifName, own.Addresses)
		}
	}
	if err := r.checkBrought(p, ifName, result, own); err != nil {
		return err
	}
	var host []agent.Link
	for _, iface := range result.Interfaces {
		if iface.Sandbox == "" && host == nil {
			if host, err = p.Agent.Links(ctx, ""); err != nil {
				return err
			}
		}
		if iface.Sandbox == "" {
			if _, found := agent.FindLink(host, iface.Name); !found {
				return fmt.Errorf("%s: the result names the interface %s of the node, which does not exist", p.Name,
					iface.Name)
			}
		}
	}
	return nil
}

// Check runs CHECK. The caller checks Lacks first.
func (r *Runner) Check(ctx context.Context, p *environment.Pod, ifName string) error {
	_, err := r.cni(ctx, p, r.request(p, cni.Check, ifName))
	return err
}

// Lacks reports whether the conflist's version of the specification lacks a verb, and records that.
func (r *Runner) Lacks(verb cni.Verb) bool { return r.lacks(r.config.Conflist.CNIVersion, verb) }

func (r *Runner) lacks(cniVersion string, verb cni.Verb) bool {
	if verb.In(cniVersion) {
		return false
	}
	r.Env.Note("CNI %s has no %s", cniVersion, verb)
	return true
}

// equipPod starts the servers of a pod.
func (r *Runner) equipPod(ctx context.Context, p *environment.Pod) error {
	if d := p.Spec.Redirect; d != nil {
		if err := p.Agent.Redirect(ctx, agent.RedirectArgs{Netns: p.Netns, Port: d.Port, To: d.To}); err != nil {
			return err
		}
	}
	return listen(ctx, &p.Place, p.Spec.Listen)
}

// Del deletes an attachment.
func (r *Runner) Del(ctx context.Context, p *environment.Pod, ifName string, how Deletion) error {
	err := r.runtime.detach(ctx, p, ifName, how)
	var refused *cni.Error
	if errors.As(err, &refused) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.halted = cmp.Or(r.halted, refused.Plugin)
	}
	return err
}

// Halted returns the first plugin whose DEL failed, and with it all DELs that came after; empty if none did.
func (r *Runner) Halted() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.halted
}

// RemoveNamespace removes the pod's namespace, if there is one, without any DEL.
func (r *Runner) RemoveNamespace(ctx context.Context, p *environment.Pod) error {
	if !p.Exists {
		return nil
	}
	p.Exists = false
	return p.Node.Agent.RemoveNamespace(ctx, p.Namespace)
}

// request returns what the runtime of a kubelet would pass for the pod.
func (r *Runner) request(p *environment.Pod, verb cni.Verb, ifName string) cni.Request {
	req := cni.Request{
		Verb: verb, Conflist: r.conflistOf(p, ifName), BinDirs: p.Node.BinDirs,
		ContainerID: p.ContainerID(), Netns: p.Netns, IfName: ifName,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", r.Env.Scenario.Name},
			{"K8S_POD_NAME", cmp.Or(p.Spec.PodName, p.Namespace)},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ContainerID()},
		},
	}
	if p.Spec.Count == 0 {
		req.Trace = r.traced
	}
	if len(p.Spec.HostPorts) > 0 {
		var mappings []map[string]any
		for _, port := range p.Spec.HostPorts {
			mappings = append(mappings, map[string]any{
				"hostPort": port.HostPort, "containerPort": port.ContainerPort, "protocol": port.Protocol,
			})
		}
		req.CapabilityArgs = map[string]any{"portMappings": mappings}
	}
	r.bring(p, &req)
	return req
}

// cni runs a verb and keeps its calls. An error of the plugin is a *cni.Error.
func (r *Runner) cni(ctx context.Context, p *environment.Pod, req cni.Request) (agent.CNIReply, error) {
	reply, err := p.Node.Agent.CNI(ctx, req)
	if err != nil {
		return reply, err
	}
	r.keep(p.Node, reply)
	if err := reply.Outcome.Err(); err != nil {
		err = fmt.Errorf("%s: %s: %w", p.Name, req.Verb, err)
		return reply, failedCall{error: err, node: p.Node, pod: p, request: req}.withCall(reply.Outcome.Calls)
	}
	return reply, nil
}

// keep keeps the calls, and which plugin was seen to change what.
func (r *Runner) keep(node *cluster.Node, reply agent.CNIReply) {
	for _, call := range reply.Outcome.Calls {
		r.config.Times.Keep(call)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, reply.Outcome.Calls...)
	state, ok := r.Env.States[node.Name]
	if !ok {
		return
	}
	for i, changes := range reply.Changes {
		state.Learn(reply.Outcome.Calls[i].Plugin, changes)
	}
}
