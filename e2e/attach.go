package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// add makes the pod's namespace where there is none and attaches it, as a runtime does for a new sandbox.
func (r *run) add(ctx context.Context, p *environment.Pod, ifName string) error {
	if runtime := cluster.RuntimeOf(r.env.Cluster); runtime != nil {
		return r.addByRuntime(ctx, runtime, p)
	}
	if err := r.makeNamespace(ctx, p); err != nil {
		return err
	}
	reply, err := r.cni(ctx, p, r.request(p, cni.Add, ifName))
	// A runtime DELs what it tried to ADD, whatever came of it (SPEC.md, section 3).
	p.SetAttached(ifName, err == nil)
	if err != nil {
		return err
	}
	return r.accept(ctx, p, ifName, reply.Outcome.Result)
}

// accept takes the addresses of a new attachment from the result of its ADD, which must be true of it.
func (r *run) accept(ctx context.Context, p *environment.Pod, ifName string, result json.RawMessage) error {
	addrs, err := parseAddresses(result, ifName)
	if err != nil {
		return fmt.Errorf("%s: result of ADD: %w", p.Name, err)
	}
	p.SetAddresses(ifName, addrs)
	if err := r.env.CheckUnique(p, ifName); err != nil {
		return err
	}
	return r.checkResult(ctx, p, ifName, result)
}

func (r *run) makeNamespace(ctx context.Context, p *environment.Pod) error {
	if p.Exists {
		return nil
	}
	if _, err := p.Node.Agent.CreateNamespace(ctx, p.Namespace); err != nil {
		return err
	}
	p.Exists, p.Agent = true, p.Node.Agent
	return r.equipPod(ctx, p)
}

// equipPod starts what runs in a pod.
func (r *run) equipPod(ctx context.Context, p *environment.Pod) error {
	if d := p.Spec.Redirect; d != nil {
		if err := p.Agent.Redirect(ctx, agent.RedirectArgs{Netns: p.Netns, Port: d.Port, To: d.To}); err != nil {
			return err
		}
	}
	return listen(ctx, &p.Place, p.Spec.Listen)
}

// request is what a kubelet's runtime would pass for the pod.
func (r *run) request(p *environment.Pod, verb cni.Verb, ifName string) cni.Request {
	req := cni.Request{
		Verb: verb, Conflist: p.Network.Conflist, BinDirs: p.Node.BinDirs,
		ContainerID: p.ContainerID(), Netns: p.Netns, IfName: ifName,
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", r.env.Scenario.Name}, {"K8S_POD_NAME", p.Namespace},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ContainerID()},
		},
	}
	if p.Spec.Count == 0 {
		req.Trace = r.traced
	}
	if len(p.Spec.HostPorts) > 0 {
		var mappings []map[string]any
		for _, port := range p.Spec.HostPorts {
			mappings = append(mappings, map[string]any{"hostPort": port.HostPort, "containerPort": port.ContainerPort, "protocol": port.Protocol})
		}
		req.CapabilityArgs = map[string]any{"portMappings": mappings}
	}
	return req
}

// cni runs a verb and keeps its calls. An error of the plugin's is a *cni.Error.
func (r *run) cni(ctx context.Context, p *environment.Pod, req cni.Request) (agent.CNIReply, error) {
	reply, err := p.Node.Agent.CNI(ctx, req)
	if err != nil {
		return reply, err
	}
	r.keep(p.Node, reply)
	if err := reply.Outcome.Err(); err != nil {
		return reply, fmt.Errorf("%s: %s: %w", p.Name, req.Verb, err)
	}
	return reply, nil
}

// keep remembers the calls, and which plugin was seen to make what.
func (r *run) keep(node *cluster.Node, reply agent.CNIReply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, reply.Outcome.Calls...)
	state, ok := r.env.States[node.Name]
	if !ok {
		return
	}
	for i, changes := range reply.Changes {
		state.Learn(reply.Outcome.Calls[i].Plugin, changes)
	}
}

// parseAddresses are those that a result of any version gives the interface.
func parseAddresses(data json.RawMessage, ifName string) ([]netip.Addr, error) {
	result, err := cni.ParseResult(data)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		// Before 0.3.0 there are no interfaces: every address is CNI_IFNAME's.
		if ip.Interface != nil && len(result.Interfaces) > 0 {
			if *ip.Interface < 0 || *ip.Interface >= len(result.Interfaces) {
				return nil, fmt.Errorf("address %s is of interface %d, and there are %d", ip.Address.String(), *ip.Interface, len(result.Interfaces))
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

// checkResult wants that what the result says stands in the kernel (SPEC.md, section 5, ADD Success).
func (r *run) checkResult(ctx context.Context, p *environment.Pod, ifName string, data json.RawMessage) error {
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
	var host []agent.Link
	for _, iface := range result.Interfaces {
		if iface.Sandbox == "" && host == nil {
			if host, err = p.Agent.Links(ctx, ""); err != nil {
				return err
			}
		}
		if iface.Sandbox == "" {
			if _, found := agent.FindLink(host, iface.Name); !found {
				return fmt.Errorf("%s: the result names the interface %s of the node, which does not exist", p.Name, iface.Name)
			}
		}
	}
	return nil
}

func (r *run) check(ctx context.Context, p *environment.Pod, ifName string) error {
	if r.lacks(cni.Check) {
		return nil
	}
	_, err := r.cni(ctx, p, r.request(p, cni.Check, ifName))
	return err
}

// lacks reports whether the conflist's version of the spec has no such verb, and notes it.
func (r *run) lacks(verb cni.Verb) bool {
	version := r.suite.file.CNIVersion
	old := map[cni.Verb][]string{
		cni.Check:  {"0.1.0", "0.2.0", "0.3.0", "0.3.1"},
		cni.GC:     {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"},
		cni.Status: {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"},
	}
	if !slices.Contains(old[verb], version) {
		return false
	}
	r.env.Note("CNI %s has no %s", version, verb)
	return true
}

// del deletes an attachment with what the step leaves of its namespace and its cache.
func (r *run) del(ctx context.Context, p *environment.Pod, ifName, netns, cache string) error {
	if runtime := cluster.RuntimeOf(r.env.Cluster); runtime != nil {
		return r.delByRuntime(ctx, runtime, p)
	}
	if netns != "" && p.Exists {
		if err := r.removeNamespace(ctx, p); err != nil {
			return err
		}
	}
	path := cni.CachePath(p.Network.Name, p.ContainerID(), ifName)
	switch cache {
	case "absent":
		if err := p.Node.Agent.RemoveFile(ctx, path); err != nil {
			return err
		}
	case "empty":
		if err := p.Node.Agent.WriteFile(ctx, agent.File{Path: path, Mode: 0o600}); err != nil {
			return err
		}
	}
	req := r.request(p, cni.Del, ifName)
	if netns == "empty" {
		req.Netns = ""
	}
	if _, err := r.cni(ctx, p, req); err != nil {
		return err
	}
	p.SetDetached(ifName)
	return nil
}

func (r *run) removeNamespace(ctx context.Context, p *environment.Pod) error {
	if !p.Exists {
		return nil
	}
	p.Exists = false
	return p.Node.Agent.RemoveNamespace(ctx, p.Namespace)
}

// release runs the DEL of the IPAM plugin alone, with the configuration of the plugin that delegates to it (SPEC.md, section 4).
func (r *run) release(ctx context.Context, p *environment.Pod, ifName string) error {
	var list struct {
		CNIVersion string            `json:"cniVersion"`
		Name       string            `json:"name"`
		Plugins    []json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(p.Network.Conflist, &list); err != nil {
		return err
	}
	for _, raw := range list.Plugins {
		var config map[string]any
		if err := json.Unmarshal(raw, &config); err != nil {
			return err
		}
		ipam, _ := config["ipam"].(map[string]any)
		plugin, _ := ipam["type"].(string)
		if plugin == "" {
			continue
		}
		config["cniVersion"], config["name"] = list.CNIVersion, list.Name
		stdin, err := json.Marshal(config)
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
			return fmt.Errorf("%s: DEL of %s alone: %w", p.Name, plugin, &cni.Error{Plugin: plugin, Msg: strings.TrimSpace(call.Stdout + call.Failure)})
		}
		p.SetReleased(ifName)
		return nil
	}
	return errors.New("no plugin of the chain has an IPAM plugin")
}

func (r *run) gc(ctx context.Context, node *cluster.Node) error {
	if r.lacks(cni.GC) {
		return nil
	}
	req := cni.Request{Verb: cni.GC, Conflist: node.Conflist, BinDirs: node.BinDirs}
	for _, p := range r.env.Pods {
		if p.Node != node {
			continue
		}
		for _, name := range p.Valid() {
			req.ValidAttachments = append(req.ValidAttachments, cni.Attachment{ContainerID: p.ContainerID(), IfName: name})
		}
	}
	if runtime := cluster.RuntimeOf(r.env.Cluster); runtime != nil {
		// Pods of others, CoreDNS' above all, are attached as well.
		all, err := runtime.Attachments(ctx, node)
		if err != nil {
			return err
		}
		for _, a := range all {
			req.ValidAttachments = append(req.ValidAttachments, cni.Attachment{ContainerID: a.ContainerID, IfName: a.IfName})
		}
	}
	return r.onNode(ctx, node, req)
}

func (r *run) status(ctx context.Context, node *cluster.Node) error {
	if r.lacks(cni.Status) {
		return nil
	}
	return r.onNode(ctx, node, cni.Request{Verb: cni.Status, Conflist: node.Conflist, BinDirs: node.BinDirs})
}

func (r *run) onNode(ctx context.Context, node *cluster.Node, req cni.Request) error {
	reply, err := node.Agent.CNI(ctx, req)
	if err != nil {
		return err
	}
	r.keep(node, reply)
	if err := reply.Outcome.Err(); err != nil {
		return fmt.Errorf("%s: %s: %w", node.Name, req.Verb, err)
	}
	return nil
}

// reboot loses the pods' namespaces with the rest of the kernel's state; what was attached still is for its runtime.
func (r *run) reboot(ctx context.Context, node *cluster.Node) error {
	if err := r.env.Cluster.Reboot(ctx, node); err != nil {
		return err
	}
	delete(r.down, node.Name)
	for i, n := range r.env.Cluster.Nodes() {
		if n == node {
			if err := listen(ctx, &node.Place, r.env.Scenario.Nodes[i].Listen); err != nil {
				return err
			}
		}
	}
	for _, p := range r.env.Pods {
		if p.Node == node {
			p.SetLost()
		}
	}
	return errors.Join(r.equipNodes(ctx), r.routeRouted(ctx), r.syncServices(ctx))
}

// churn attaches and deletes a pod in a loop, each time as a new one.
func (r *run) churn(ctx context.Context, c scenario.Churn) error {
	template := r.env.PodsNamed(c.Pod)[0]
	deadline := time.Now().Add(time.Duration(c.For))
	for round := 0; round == 0 || time.Now().Before(deadline); round++ {
		p := r.env.NewPod(template.Spec, template.Node, fmt.Sprintf("%s-%d", template.Namespace, round), "")
		p.Network = template.Network
		if err := r.churnOnce(ctx, p); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	return nil
}

func (r *run) churnOnce(ctx context.Context, p *environment.Pod) error {
	err := r.add(ctx, p, scenario.DefaultInterface)
	return errors.Join(err, r.del(ctx, p, scenario.DefaultInterface, "", ""), r.removeNamespace(ctx, p))
}
