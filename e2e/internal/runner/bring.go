package runner

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/offer"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// bring adds to a request what a runtime passes for the pod: addresses if the IPAM plugin expects them, and values for
// the capabilities of the conflist that the pod asks for.
func (r *Runner) bring(p *environment.Pod, req *cni.Request) {
	if !p.On(req.IfName).Own {
		return
	}
	if req.CapabilityArgs == nil {
		req.CapabilityArgs = map[string]any{}
	}
	var brings offer.Offer
	if way, _ := r.config.Conflist.Brought(); way != "" {
		brings.Bring(way, r.broughtTo(p, req.IfName))
	}
	if device := r.deviceOf(p, req.IfName); device != "" {
		brings.AskDevice(r.config.Conflist.Capabilities(), device)
	}
	if p.Spec.Asks {
		maps.Copy(req.CapabilityArgs, r.asked(p, req.IfName).Capabilities)
	}
	req.Args = append(req.Args, brings.Args...)
	maps.Copy(req.CapabilityArgs, brings.Capabilities)
}

// broughtTo returns the addresses that the runtime passes for an attachment.
func (r *Runner) broughtTo(p *environment.Pod, ifName string) []netip.Prefix {
	return r.desk.Addresses(p.Node.Name, p.Node.PodAddresses, p.ContainerID(), ifName)
}

// checkBrought checks that a pod has what the runtime passed, in the result and in its namespace.
func (r *Runner) checkBrought(p *environment.Pod, ifName string, result *cni.Result, own agent.Link) error {
	if way, _ := r.config.Conflist.Brought(); way != "" && p.On(ifName).Own {
		for _, want := range r.broughtTo(p, ifName) {
			if !slices.ContainsFunc(result.IPs, func(ip *cni.IPConfig) bool {
				return ip.Address.String() == want.String()
			}) {
				return fmt.Errorf("%s: %s asks for the address %s, and the result has %s", p.Name, way, want,
					ipsOf(result))
			}
		}
	}
	if !p.Spec.Asks || !p.On(ifName).Own {
		return nil
	}
	brings := r.asked(p, ifName)
	if err := brings.Check(result, ifName, own.MAC); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// asked returns what a pod asks for by the capabilities of its conflist, which may be the first plugins of the chain
// alone: whoever declares a capability must be in it.
func (r *Runner) asked(p *environment.Pod, ifName string) *offer.Offer {
	capabilities := r.config.Conflist.Capabilities()
	if list, err := conflist.ParseRendered(p.On(ifName).Conflist); err == nil {
		capabilities = list.Capabilities()
	}
	var brings offer.Offer
	brings.Ask(capabilities, p.ContainerID(), ifName)
	if device := r.deviceOf(p, ifName); device != "" {
		brings.AskDevice(capabilities, device)
	}
	return &brings
}

// checkAskedPort checks that the node forwards the ports that a pod asked for, if the conflist has portMappings. The
// node itself asks: others may get the answer of an underlay pod directly, with the pod's address.
func (r *Runner) checkAskedPort(ctx context.Context, p *environment.Pod, ifName string) error {
	if !p.Spec.Asks || !p.On(ifName).Own || r.asked(p, ifName).Capabilities["portMappings"] == nil {
		return nil
	}
	probe := scenario.Probe{From: p.Node.Name, To: p.Node.Name, Protocol: scenario.TCP, Port: offer.AskedPort}
	wrong := func(err error) error {
		return fmt.Errorf("%s: the capability portMappings asks for port %d of the node: %w", p.Name, probe.Port, err)
	}
	if err := r.ProbePair(ctx, probe, &p.Node.Place, &p.Node.Place); err != nil {
		return wrong(err)
	}
	if !slices.ContainsFunc(p.Interfaces[ifName], netip.Addr.Is4) {
		return nil
	}
	probe.Port++ // asked for at 0.0.0.0
	for _, addr := range p.Node.Interfaces[scenario.UplinkInterface] {
		if !addr.Is4() {
			continue
		}
		if err := r.probeAddress(ctx, probe, &p.Node.Place, &p.Node.Place, addr); err != nil {
			return wrong(err)
		}
	}
	return nil
}

// ipsOf returns the addresses of a result.
func ipsOf(result *cni.Result) []string {
	var list []string
	for _, ip := range result.IPs {
		list = append(list, ip.Address.String())
	}
	return list
}

// conflistOf returns the conflist of an attachment. Multus writes into it the device of a pod and the cni-args of its
// annotation: if pods get devices of their node, it names one, and if the file has args.cni.ips, the pod's addresses.
func (r *Runner) conflistOf(p *environment.Pod, ifName string) []byte {
	network := p.On(ifName)
	key, _ := r.config.Conflist.DeviceKey()
	device := r.deviceOf(p, ifName)
	way, at := r.config.Conflist.Brought()
	if !network.Own || device == "" && way != conflist.ByConfig {
		return network.Conflist
	}
	list, err := conflist.ParseRendered(network.Conflist)
	if err != nil {
		return network.Conflist // the plugins report the lack
	}
	if device != "" {
		list.Set(0, key, device)
	}
	if way == conflist.ByConfig {
		var brings offer.Offer
		brings.Bring(way, r.broughtTo(p, ifName))
		list.Set(at, "args", brings.ArgsOf(list.Plugins[at]))
	}
	data, err := list.Bytes()
	if err != nil {
		return network.Conflist
	}
	return data
}

// deviceOf returns the device of the node that an attachment gets; empty if it gets none.
func (r *Runner) deviceOf(p *environment.Pod, ifName string) string {
	key, _ := r.config.Conflist.DeviceKey()
	devices := offer.Values(r.config.Target.GivenDevices(), p.Node.Devices, key)
	if key == "" || len(devices) == 0 {
		return ""
	}
	return r.desk.Devices.Take(p.Node.Name, devices, p.ContainerID(), ifName)
}

// setAddresses gives a pod without IPAM addresses, as its owner does, to show that frames pass.
func (r *Runner) setAddresses(ctx context.Context, p *environment.Pod, ifName string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, prefix := range r.broughtTo(p, ifName) {
		args := agent.AddressArgs{Netns: p.Netns, Interface: ifName, Address: prefix}
		if err := p.Agent.AddAddress(ctx, args); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		addrs = append(addrs, prefix.Addr())
	}
	return addrs, nil
}
