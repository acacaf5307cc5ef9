package runner

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/offer"
)

// bring adds to a request what a runtime passes for the pod: addresses if the IPAM plugin expects them, and values for
// the capabilities of the conflist that the pod asks for.
func (r *Runner) bring(p *environment.Pod, req *cni.Request) {
	if !p.On(req.IfName).Own {
		return
	}
	var brings offer.Offer
	if way, _ := r.config.Conflist.Brought(); way != "" {
		brings.Bring(way, r.broughtTo(p, req.IfName))
	}
	if p.Spec.Asks {
		brings.Ask(r.config.Conflist.Capabilities(), p.ContainerID(), req.IfName)
	}
	req.Args = append(req.Args, brings.Args...)
	if req.CapabilityArgs == nil {
		req.CapabilityArgs = map[string]any{}
	}
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
	var brings offer.Offer
	brings.Ask(r.config.Conflist.Capabilities(), p.ContainerID(), ifName)
	if mac, ok := brings.Capabilities["mac"].(string); ok {
		if !strings.EqualFold(own.MAC, mac) {
			return fmt.Errorf("%s: the capability mac asks for %s, and %s has %s", p.Name, mac, ifName, own.MAC)
		}
		for _, iface := range result.Interfaces {
			if iface.Sandbox != "" && iface.Name == ifName && !strings.EqualFold(iface.Mac, mac) {
				return fmt.Errorf("%s: the capability mac asks for %s, and the result says %s of %s", p.Name, mac,
					iface.Mac, ifName)
			}
		}
	}
	if brings.Capabilities["dns"] != nil && !slices.Contains(result.DNS.Nameservers, offer.AskedServer) {
		return fmt.Errorf("%s: the capability dns asks for the server %s, and the result has %v", p.Name,
			offer.AskedServer, result.DNS.Nameservers)
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

// conflistOf returns the conflist of an attachment. If pods get devices of their node, it names one, as Multus writes
// the device of a pod into its conflist.
func (r *Runner) conflistOf(p *environment.Pod, ifName string) []byte {
	network := p.On(ifName)
	key, _ := r.config.Conflist.DeviceKey()
	devices := offer.Values(r.config.Target.GivenDevices(), p.Node.Devices, key)
	if !network.Own || key == "" || len(devices) == 0 {
		return network.Conflist
	}
	list, err := conflist.ParseRendered(network.Conflist)
	if err != nil {
		return network.Conflist // the plugins report the lack
	}
	device := r.desk.Devices.Take(p.Node.Name, devices, p.ContainerID(), ifName)
	data, err := list.WithKey(key, device)
	if err != nil {
		return network.Conflist
	}
	return data
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
