package contract

import (
	"context"
	"encoding/json"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

// answersOfDelegates returns the requirements about what a plugin does with the answer of the plugin that it delegates
// to.
func answersOfDelegates() []Requirement {
	return []Requirement{
		{
			ID: "DLG-5", Level: Stated, Section: "4; 5, Delegated plugins (IPAM)", Roles: []Role{Main}, Since: "0.3.0",
			Text: "A plugin sets all addresses and routes that its IPAM plugin answers, the routes with mtu, advmss, " +
				"priority and table.",
			Why: "An administrator writes a route with a metric into ipam, and the default route of another network " +
				"wins nevertheless.",
			How: "A stub in the place of the IPAM plugin answers an address of 198.51.100.0/24 and routes with these " +
				"attributes (1.1.0); then two addresses, which a plugin may refuse.",
			check: checkAppliesIPAM,
		},
		{
			ID: "DLG-6", Level: Should, Section: "4, Delegated plugin execution", Roles: []Role{Main},
			Text: "ADD fails when the delegated plugin ends by a signal, or with status 0 and no result, and calls " +
				"its DEL.",
			Why: "A pod without an address counts as attached, and the address that the plugin reserved before it " +
				"was killed stays reserved.",
			How: "A stub in the place of the IPAM plugin reserves an address and then prints nothing, prints text, " +
				"or is killed.",
			check: checkDelegateAnswers,
		},
		{
			ID: "ERR-6", Level: May, Section: "5, Error, code 11", Roles: []Role{Main},
			Text:  "Code 11 of a delegated plugin, which says that the condition clears up by itself, stays code 11.",
			Why:   "With any other code the runtime gives up what the next attempt would attach.",
			How:   "A stub in the place of the IPAM plugin fails with code 11 in ADD.",
			check: checkTransient,
		},
		{
			ID: "DLG-7", Level: Should, Section: "4, Delegated plugin execution", Roles: everyPlugin(),
			Text: "TRACEPARENT, TRACESTATE and BAGGAGE in the environment do no harm, and the delegated plugin gets " +
				"them.",
			Why: "A plugin that cleans the environment ends the trace at itself: libcni passes the context of a " +
				"trace to plugins in these variables (containernetworking/cni#1173).",
			How:   "ADD and DEL with the three variables; a stub in the place of the IPAM plugin records what it gets.",
			check: checkTraceContext,
		},
	}
}

// ipamAnswer is what the stub answers in the place of an IPAM plugin.
type ipamAnswer struct {
	addresses []string
	gateway   string
	routes    []*types.Route
	dns       map[string]any // left out if it is nil
}

// text returns the answer in the format of a version.
func (a *ipamAnswer) text(version string) (json.RawMessage, error) {
	ips := []map[string]any{}
	for _, address := range a.addresses {
		ip := map[string]any{"address": address, "gateway": a.gateway}
		if !atLeast(version, "1.0.0") {
			ip["version"] = "4"
		}
		ips = append(ips, ip)
	}
	result := map[string]any{"cniVersion": version, "ips": ips, "routes": a.routes}
	if a.dns != nil {
		result["dns"] = a.dns
	}
	return json.Marshal(result)
}

// routesToApply returns routes via a gateway, with every attribute that a version has.
func routesToApply(gateway net.IP, version string) []*types.Route {
	to := func(network string) net.IPNet {
		_, parsed, err := net.ParseCIDR(network)
		if err != nil {
			panic(err)
		}
		return *parsed
	}
	routes := []*types.Route{{Dst: to("0.0.0.0/0"), GW: gateway}, {Dst: to("203.0.113.0/24"), GW: gateway}}
	if atLeast(version, "1.1.0") {
		table := 117
		routes = append(routes,
			&types.Route{Dst: to("192.0.2.0/25"), GW: gateway, MTU: 1380, AdvMSS: 1300, Priority: 77},
			&types.Route{Dst: to("192.0.2.128/25"), GW: gateway, Table: &table})
	}
	return routes
}

func checkAppliesIPAM(ctx context.Context, t *trial) error {
	b, err := t.stubbed(ctx, nil)
	if err != nil {
		return err
	}
	gateway := net.IPv4(198, 51, 100, 1)
	one := ipamAnswer{
		addresses: []string{"198.51.100.7/24"}, gateway: gateway.String(), routes: routesToApply(gateway, t.version),
	}
	call, err := b.applies(ctx, "one", &one)
	if err != nil {
		return err
	}
	if call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "ADD with an IPAM plugin that answers %s and routes: want success, got %s",
			one.addresses[0], summary(call))
		return nil
	}
	two := ipamAnswer{addresses: []string{"198.51.100.8/24", "198.51.100.9/24"}, gateway: gateway.String()}
	call, err = b.applies(ctx, "two", &two)
	if err == nil && call.ExitCode != 0 {
		t.note("it refuses two addresses of one network")
	}
	return err
}

// applies attaches a pod with an answer of the IPAM plugin, and checks that the pod has what the answer says if ADD
// succeeds.
func (b *bench) applies(ctx context.Context, name string, answer *ipamAnswer) (cni.Call, error) {
	text, err := answer.text(b.version)
	if err != nil {
		return cni.Call{}, err
	}
	nothing := ""
	b.order(map[string]stub.Behaviour{"ADD": {Result: text}, "DEL": {Output: &nothing}})
	p, err := b.pod(ctx, name)
	if err != nil {
		return cni.Call{}, err
	}
	call, err := b.call(ctx, cni.Add, p)
	if err != nil || call.ExitCode != 0 {
		return call, err
	}
	links, err := b.node.Agent.Links(ctx, p.netns)
	if err != nil {
		return call, err
	}
	link, _ := agent.FindLink(links, p.ifName)
	for _, address := range answer.addresses {
		if !slices.Contains(link.Addresses, address) {
			b.wrong([]cni.Call{call}, "the IPAM plugin answers the address %s, and %s has %v", address, p.ifName,
				link.Addresses)
		}
	}
	state, err := b.state(ctx, p)
	if err != nil {
		return call, err
	}
	for _, r := range answer.routes {
		if deviation := routeDeviation(state.Items, p.name, r); deviation != "" {
			b.wrong([]cni.Call{call}, "the IPAM plugin answers the route %s, and %s", describe(r), deviation)
		}
	}
	return call, nil
}

func checkDelegateAnswers(ctx context.Context, t *trial) error {
	b, err := t.stubbed(ctx, nil)
	if err != nil {
		return err
	}
	nothing, rubbish := "", "attached\n"
	for i, tt := range []struct {
		name, what string
		answer     stub.Behaviour
	}{
		{"nothing", "prints nothing", stub.Behaviour{Output: &nothing, After: true}},
		{"rubbish", "prints text that is no result", stub.Behaviour{Output: &rubbish, After: true}},
		{"killed", "is killed", stub.Behaviour{Killed: true, After: true}},
	} {
		b.order(map[string]stub.Behaviour{"ADD": tt.answer})
		p, err := b.pod(ctx, tt.name)
		if err != nil {
			return err
		}
		// The call is no example for others: for a plugin that was killed the library's error has code 0 (pkg/invoke).
		call, err := b.exec(ctx, b.subjectInvocation(cni.Add, p))
		if err != nil {
			return err
		}
		if call.ExitCode == 0 {
			t.wrong([]cni.Call{call}, "ADD succeeds although the plugin that it delegates to %s", tt.what)
			return nil
		}
		records, err := b.recordsOf(ctx, cni.Del)
		if err != nil {
			return err
		}
		if len(records) <= i {
			t.wrong([]cni.Call{call}, "ADD fails since the delegated plugin %s, and does not call its DEL", tt.what)
			return nil
		}
	}
	return nil
}

func checkTraceContext(ctx context.Context, t *trial) error {
	trace := map[string]string{
		"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"TRACESTATE":  "cnitest=t61rcWkgMzE",
		"BAGGAGE":     "pod=web",
	}
	start := t.stubbed
	if t.subject.ipam == "" || t.subject.Role != Main {
		start = func(ctx context.Context, _ map[string]stub.Behaviour) (*bench, error) { return t.bench(ctx, nil) }
	}
	b, err := start(ctx, nil)
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "traced")
	if err != nil {
		return err
	}
	for _, verb := range []cni.Verb{cni.Add, cni.Del} {
		call, err := b.call(ctx, verb, p, func(inv *invocation) {
			for name, value := range trace {
				inv.env[name] = value
			}
		})
		if err != nil {
			return err
		}
		if call.ExitCode != 0 {
			t.wrong([]cni.Call{call}, "%s with the context of a trace in its environment: want success, got %s", verb,
				summary(call))
			return nil
		}
		records, err := b.recordsOf(ctx, verb)
		if err != nil {
			return err
		}
		for _, name := range []string{"TRACEPARENT", "TRACESTATE", "BAGGAGE"} {
			if len(records) == 0 {
				continue // DLG-1 reports it
			}
			if got, _ := records[0].Var(name); got != trace[name] {
				t.wrong([]cni.Call{call}, "%s: the delegated plugin gets %s=%q, want %q", verb, name, got, trace[name])
			}
		}
	}
	return nil
}

// passesOn checks that a verb fails with the code with which the delegated plugin fails.
func (b *bench) passesOn(ctx context.Context, verb cni.Verb, p *pod, code uint) error {
	b.order(map[string]stub.Behaviour{string(verb): {Code: code, Msg: "the stub says no"}})
	call, err := b.call(ctx, verb, p)
	if err != nil || call.ExitCode == 0 {
		return err // DLG-4 or STA-4 reports it
	}
	if answer, _ := failure(call); answer.Code != code {
		b.wrong([]cni.Call{call}, "%s: the plugin that it delegates to fails with code %d, and it with %s", verb, code,
			summary(call))
	}
	return nil
}

func checkTransient(ctx context.Context, t *trial) error {
	b, err := t.stubbed(ctx, nil)
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	return b.passesOn(ctx, cni.Add, p, 11)
}
