package contract

import (
	"context"
	"fmt"
	"net"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/offer"
)

// conventions returns the requirements of CONVENTIONS.md, and the keys of section 1 that other checks leave out.
func conventions() []Requirement {
	return []Requirement{
		{
			ID: "CFG-10", Level: Should, Section: "1, Plugin configuration objects, well-known keys",
			Roles: []Role{Main}, Since: "0.3.0",
			Text:  "A plugin that knows the key dns passes all of it on: nameservers, domain, search and options.",
			Why:   "A pod with the servers and without the search domain resolves half of the names.",
			How:   "ADD with all four in the configuration; one that gives none of them does not know the key.",
			check: checkWholeDNS,
		},
		{
			ID: "CFG-11", Level: Should, Section: "1, Plugin configuration objects, well-known keys",
			Roles: []Role{Main},
			Text: "With ipMasq what a pod sends out of its network has an address of the node, and what it sends " +
				"within the network its own.",
			Why: "Machines that have no route to the pods cannot answer otherwise, and pods of one network must know " +
				"each other by their addresses.",
			How: "A pod with ipMasq, and one without it, ask a machine on the underlay from another network, and " +
				"each other. Asked of plugins whose configuration has the key, and of upstream's bridge and ptp " +
				"where iptables or nft is installed.",
			check: checkMasquerade,
		},
		{
			ID: "CFG-12", Level: Should, Section: "failure mode", Roles: []Role{IPAM},
			Text: "A gateway that is outside of its subnet is refused.",
			Why: "No pod can send anything beyond its network, and nothing says why: the route to the gateway is " +
				"refused, or leads nowhere.",
			How: "ADD with the gateway 203.0.113.254 for a range of another subnet is an error that leaves nothing, " +
				"ignores it, or has a route of its own to it. Asked where the configuration has a subnet.",
			check: checkGatewayElsewhere,
		},
		{
			ID: "CFG-13", Level: Should, Section: "failure mode", Roles: everyPlugin(),
			Text: "A key with a value of another type is an error with an error object, not a crash.",
			Why: "Whoever wrote a string for a number reads a goroutine's stack, and a pod whose DEL crashes cannot " +
				"be deleted.",
			How: "ADD and DEL with each key of the plugin's own configuration, up to six, replaced by an object, or " +
				"an object by a string: success, or an error object.",
			check: checkMistyped,
		},
		{
			ID: "CNV-1", Level: Should, Section: "CONVENTIONS.md, Dynamic plugin specific fields", Roles: inChain(),
			Text: "A capability with a value that makes no sense is an error.",
			Why: "A pod that asked for an address of its own and got another one runs, until somebody sends to the " +
				"one that it asked for.",
			How: "ADD with a malformed value in runtimeConfig for each capability that the conflist declares for the " +
				"plugin.",
			check: checkMalformedCapabilities,
		},
		{
			ID: "CNV-2", Level: Should, Section: "CONVENTIONS.md, args in network config", Roles: everyPlugin(),
			Text:  "A plugin ignores args that it does not understand.",
			Why:   "A runtime passes the same args to all plugins, labels of the pod for example.",
			How:   "ADD, CHECK and DEL with labels and unknown keys in args and args.cni.",
			check: checkUnknownArgs,
		},
		{
			ID: "CNV-3", Level: Should, Section: "CONVENTIONS.md, Dynamic plugin specific fields", Roles: inChain(),
			Since: "0.3.0",
			Text:  "A capability that a plugin declares has the effect that the conventions give it.",
			Why:   "Whoever changes to another plugin keeps the annotations of the pods.",
			How: "ADD with a value for each declared capability of mac, dns, ips, infinibandGUID, bandwidth and " +
				"portMappings: it succeeds, and the pod's link or the result has the value (those of the last two " +
				"are in scenarios).",
			check: checkCapabilities,
		},
	}
}

func checkWholeDNS(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	call, err := b.add(ctx, p, func(inv *invocation) { inv.config["dns"] = fullDNS() })
	if err != nil {
		return err
	}
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return nil // ADD-2 reports it
	}
	got := result.DNS
	have := map[string][]string{
		"nameservers": got.Nameservers, "domain": {got.Domain}, "search": got.Search, "options": got.Options,
	}
	lacks := map[string]string{}
	for key, value := range fullDNS() {
		wanted, isList := value.([]any)
		if !isList {
			wanted = []any{value}
		}
		for _, want := range wanted {
			if !slices.Contains(have[key], fmt.Sprint(want)) {
				lacks[key] = fmt.Sprint(want)
			}
		}
	}
	if len(lacks) == len(have) {
		return notApplicable("%s does not know the key dns", t.subject.Type)
	}
	for _, key := range []string{"nameservers", "domain", "search", "options"} {
		if lacks[key] != "" {
			t.wrong([]cni.Call{call}, "the configuration has %s in dns.%s, and the result has %v", lacks[key], key,
				have[key])
		}
	}
	return nil
}

// malformed contains a value that makes no sense for each capability of the conventions.
func malformed() map[string]any {
	const nonsense = "cnitest-nonsense"
	return map[string]any{
		"mac": nonsense, "infinibandGUID": nonsense, "ips": []string{nonsense},
		"ipRanges":     [][]map[string]any{{{"subnet": nonsense}}},
		"bandwidth":    map[string]any{"ingressRate": nonsense, "ingressBurst": nonsense},
		"portMappings": []map[string]any{{"hostPort": nonsense, "containerPort": 80, "protocol": "tcp"}},
		"dns":          nonsense, "deviceID": nonsense,
	}
}

// declared returns the capabilities that the conflist declares for the subject.
func (s *Subject) declared() []string { return s.file.Plugins[s.index].Capabilities() }

// askingFor adds values of capabilities to those that the runtime brings.
func askingFor(values map[string]any) func(*invocation) {
	return func(inv *invocation) {
		brought, _ := inv.config["runtimeConfig"].(map[string]any)
		for name, value := range values {
			brought = withKey(brought, name, value)
		}
		inv.config["runtimeConfig"] = brought
	}
}

func checkMalformedCapabilities(ctx context.Context, t *trial) error {
	values := malformed()
	names := slices.DeleteFunc(slices.Clone(t.subject.declared()), func(name string) bool {
		return values[name] == nil
	})
	if len(names) == 0 {
		return notApplicable("the conflist declares no capability of the conventions for %s", t.subject.Type)
	}
	b, err := t.bench(ctx, manyPods)
	if err != nil {
		return err
	}
	for _, name := range names {
		p, err := b.pod(ctx, "asks-"+name)
		if err != nil {
			return err
		}
		call, err := b.call(ctx, cni.Add, p, askingFor(map[string]any{name: values[name]}))
		if err != nil {
			return err
		}
		if call.ExitCode == 0 {
			t.wrong([]cni.Call{call}, "ADD with the capability %s and the value %v succeeds, want an error", name,
				values[name])
		}
	}
	return nil
}

func checkUnknownArgs(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	unknown := func(inv *invocation) {
		args, _ := inv.config["args"].(map[string]any)
		inner, _ := args["cni"].(map[string]any)
		inner = withKey(inner, strangeKey, map[string]any{"list": []int{1, 2}})
		inner = withKey(inner, "labels", []map[string]string{{"key": "app", "value": "web"}})
		inv.config["args"] = withKey(withKey(args, "cni", inner), strangeKey, strangeValue)
	}
	for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del} {
		if verb == cni.Check && !atLeast(t.version, "0.4.0") {
			continue
		}
		call, err := b.call(ctx, verb, p, unknown)
		if err != nil {
			return err
		}
		if call.ExitCode == 0 {
			continue
		}
		// What fails in the same way without args is tested elsewhere.
		if plain, err := b.must(ctx, verb, p); err != nil || plain.ExitCode != 0 {
			return err
		}
		t.wrong([]cni.Call{call}, "%s with unknown args: want success as without, got %s", verb, summary(call))
	}
	return nil
}

// free returns an address of the pod's network that is free, if the conflist declares that the runtime can ask for one
// and the plugin chooses a single one otherwise.
func (t *trial) free(l *lifecycle) *net.IPNet {
	way, _ := t.subject.file.Brought()
	result, err := cni.ParseResult(l.pod.result)
	if err != nil || way != "" || len(result.IPs) != 1 || !slices.Contains(t.subject.declared(), "ips") {
		return nil
	}
	address := result.IPs[0].Address
	return &net.IPNet{IP: shifted(address.IP, 3), Mask: address.Mask}
}

func checkCapabilities(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	var asks offer.Offer
	asks.Ask(offer.Known(t.subject.declared()), p.id, p.ifName)
	values := asks.Capabilities
	address := t.free(l)
	if address != nil {
		values = withKey(values, "ips", []string{address.String()})
	}
	if len(values) == 0 {
		return notApplicable("the conflist declares no capability of the conventions for %s", t.subject.Type)
	}
	call, err := b.must(ctx, cni.Add, p, askingFor(values))
	if err != nil {
		return err
	}
	if call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "ADD with the capabilities %v: want success, got %s", values, summary(call))
		return nil
	}
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return nil // ADD-2 reports it
	}
	links, err := b.node.Agent.Links(ctx, p.netns)
	if err != nil {
		return err
	}
	link, _ := agent.FindLink(links, p.ifName)
	if err := asks.Check(result, p.ifName, link.MAC); err != nil {
		t.wrong([]cni.Call{call}, "%v", err)
	}
	if address != nil && !slices.ContainsFunc(result.IPs, func(ip *types100.IPConfig) bool {
		return ip.Address.IP.Equal(address.IP)
	}) {
		t.wrong([]cni.Call{call}, "the capability ips asks for %s, and the result has %v", address, addressesOf(p))
	}
	return nil
}
