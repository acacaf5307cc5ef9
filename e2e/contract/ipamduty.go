package contract

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
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
