package contract

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// checkReleasesLast checks the order of DEL: first the pod loses its addresses, and then the IPAM plugin gets them back
// (containernetworking/plugins#666).
func checkReleasesLast(ctx context.Context, t *trial) error {
	if _, leased := t.subject.file.DHCP(); leased {
		return notApplicable("dhcp gives a lease back through the pod's interface")
	}
	b, err := t.stubbed(ctx, nil)
	if err != nil {
		return err
	}
	p, err := b.attach(ctx, "first")
	if err != nil {
		return err
	}
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return nil // ADD-2 reports it
	}
	call, err := b.call(ctx, cni.Del, p)
	if err != nil {
		return err
	}
	records, err := b.recordsOf(ctx, cni.Del)
	if err != nil || len(records) == 0 {
		return err // DLG-3 reports it
	}
	for _, ip := range result.IPs {
		if address := ip.Address.String(); slices.Contains(records[0].Addresses, address) {
			t.wrong([]cni.Call{call}, "DEL calls DEL of %s while %s of the pod still has %s", t.subject.ipam, p.ifName,
				address)
		}
	}
	return nil
}

// checkKeepsDNS checks that the result has what the IPAM plugin says of DNS (containernetworking/plugins#733).
func checkKeepsDNS(ctx context.Context, t *trial) error {
	const server, domain = "192.0.2.53", "ipam.example"
	b, err := t.stubbed(ctx, nil)
	if err != nil {
		return err
	}
	config := b.configs[b.subject.index]
	if _, own := config["dns"]; own {
		return notApplicable("the configuration has dns")
	}
	answer := ipamAnswer{
		addresses: []string{"198.51.100.7/24"}, gateway: "198.51.100.1",
		dns: map[string]any{"nameservers": []string{server}, "search": []string{domain}},
	}
	text, err := answer.text(b.version)
	if err != nil {
		return err
	}
	nothing := ""
	b.order(map[string]stub.Behaviour{"ADD": {Result: text}, "DEL": {Output: &nothing}})
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p)
	if err != nil || call.ExitCode != 0 {
		return err // DLG-5 reports it
	}
	result, err := cni.ParseResult(json.RawMessage(call.Stdout))
	if err != nil {
		return nil // ADD-2 reports it
	}
	if !slices.Contains(result.DNS.Nameservers, server) || !slices.Contains(result.DNS.Search, domain) {
		t.wrong([]cni.Call{call}, "%s answers the name server %s and the search domain %s, and the result has %v and "+
			"%v", stub.IPAM, server, domain, result.DNS.Nameservers, result.DNS.Search)
	}
	return nil
}

// checkKeepsAddresses sets the pod's interface down and up (containernetworking/plugins@062b3fce).
func checkKeepsAddresses(ctx context.Context, t *trial) error {
	b, p, err := t.attached(ctx)
	if err != nil {
		return err
	}
	addresses := func() ([]string, error) {
		state, err := b.take(ctx, []string{snapshot.Address}, []*pod{p})
		var found []string
		for _, i := range state.Items {
			if i.Scope == p.name && strings.Contains(i.Name, ":") && strings.HasSuffix(i.Name, " dev "+p.ifName) &&
				!strings.HasPrefix(i.Name, "fe80:") {
				found = append(found, i.Name)
			}
		}
		return found, err
	}
	before, err := addresses()
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return notApplicable("the pod gets no IPv6 address")
	}
	for _, up := range []bool{false, true} {
		if err := b.node.Agent.SetLink(ctx, agent.SetLinkArgs{Netns: p.netns, Name: p.ifName, Up: up}); err != nil {
			return err
		}
	}
	after, err := addresses()
	if err != nil {
		return err
	}
	for _, a := range before {
		if !slices.Contains(after, a) {
			t.wrong(nil, "after %s of the pod went down and up the pod has lost the address %s", p.ifName, a)
		}
	}
	return nil
}

// checkGatewayElsewhere asks an IPAM plugin for addresses of a subnet with the gateway of another one
// (containernetworking/plugins#1294). Only a range whose keys are those of host-local is understood.
func checkGatewayElsewhere(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(b.configs[b.subject.index]["ipam"])
	if err != nil {
		return err
	}
	var section any
	if err := json.Unmarshal(text, &section); err != nil {
		return err
	}
	gateway := moveGateway(section)
	if gateway == "" {
		return notApplicable("its configuration has no subnet")
	}
	call, failed, err := b.failsCleanly(ctx, p, "with a gateway outside of its subnet", func(inv *invocation) {
		inv.config["ipam"] = section
	})
	if err != nil || failed {
		return err
	}
	result, err := cni.ParseResult(json.RawMessage(call.Stdout))
	if err != nil {
		return nil // ADD-2 reports it
	}
	// With a route to it of its own, a gateway may be anywhere: addresses of /32 have theirs so.
	reachable := slices.ContainsFunc(result.Routes, func(r *types.Route) bool {
		return r.GW == nil && r.Dst.Contains(net.ParseIP(gateway)) && single(r.Dst)
	})
	for _, ip := range result.IPs {
		if ip.Gateway.String() == gateway && !ip.Address.Contains(ip.Gateway) && !reachable {
			t.wrong([]cni.Call{call}, "ADD with the gateway %s succeeds, and the result has it for the address %s",
				gateway, ip.Address.String())
		}
	}
	return nil
}

// moveGateway gives the first object with a subnet a gateway that is in no pool of anybody (RFC 5737, RFC 3849), and
// returns it; nothing if there is none.
func moveGateway(config any) string {
	switch c := config.(type) {
	case []any:
		for _, element := range c {
			if gateway := moveGateway(element); gateway != "" {
				return gateway
			}
		}
	case map[string]any:
		subnet, ok := c["subnet"].(string)
		if ok {
			gateway := "203.0.113.254"
			if strings.Contains(subnet, ":") {
				gateway = "2001:db8:ffff::fe"
			}
			c["gateway"] = gateway
			return gateway
		}
		for _, key := range slices.Sorted(maps.Keys(c)) {
			if gateway := moveGateway(c[key]); gateway != "" {
				return gateway
			}
		}
	}
	return ""
}
