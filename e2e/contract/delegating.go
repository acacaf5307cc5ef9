package contract

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

// delegating returns the requirements of section 4, and those on cooperation between plugins.
func delegating() []Requirement {
	return []Requirement{
		{
			ID: "DLG-1", Level: Must, Section: "4, Delegated plugin execution", Roles: []Role{Main},
			Text: "A delegated plugin gets the same environment and the complete configuration.",
			Why: "An IPAM plugin keys its reservations by container and interface, and reads its own keys anywhere " +
				"in the configuration.",
			How:   "A stub in the place of the IPAM plugin records what it gets in ADD, CHECK and DEL.",
			check: checkDelegateInput,
		},
		{
			ID: "DLG-2", Level: Should, Section: "4, Delegated plugin execution", Roles: []Role{Main},
			Text:  "The delegated plugin is looked up in CNI_PATH, and its standard error is passed on.",
			Why:   "Operators have plugins in several directories, and read one log.",
			How:   "The stub is in the second directory of CNI_PATH only, and writes a line to standard error.",
			check: checkDelegateLookup,
		},
		{
			ID: "DLG-3", Level: Must, Section: "4, Delegated plugin execution", Roles: []Role{Main},
			Text:  "CHECK, DEL and GC call the delegated plugin too; its error is an error.",
			Why:   "An address that could not be released is lost, and nobody tries again.",
			How:   "A stub in place of the IPAM plugin fails in each verb in turn.",
			check: checkDelegateErrors,
		},
		{
			ID: "DLG-4", Level: Should, Section: "4, Delegated plugin execution", Roles: []Role{Main},
			Text:  "When the delegated plugin fails in ADD, it is called with DEL before ADD returns.",
			Why:   "It may have reserved an address before it failed.",
			How:   "The stub fails in ADD, and records a DEL.",
			check: checkDelegateRollback,
		},
		{
			ID: "LIF-1", Level: Must, Section: "3, Lifecycle and ordering", Roles: everyPlugin(),
			Covers: []string{"D03", "H01", "H04"},
			Text:   "A plugin can run for different containers at the same time.",
			Why:    "A node that starts has to attach fifty pods at once, and has no shared link yet.",
			How: "Attaches 16 pods at once on a cold node: all succeed, no address is given twice, CHECK passes " +
				"for each. 16 DELs at once: all succeed, and the node looks as after one pod.",
			check: checkAtOnce,
		},
		{
			ID: "CHN-1", Level: Should, Section: "CONVENTIONS.md, Chained plugins", Roles: []Role{Chained},
			Text: "A chained plugin works with interfaces of other main plugins than the one in this conflist.",
			Why:  "Administrators change the main plugin and keep the rest of the chain.",
			How: "ADD, CHECK and DEL after macvlan, ptp, bridge and tap, as far as these are among the binaries " +
				"and the kernel has them. A plugin that refuses one with an error, and leaves nothing, is not made " +
				"for it.",
			check: checkOtherMains,
		},
		{
			ID: "ARG-1", Level: Must, Section: "CONVENTIONS.md, CNI_ARGS", Roles: []Role{Main, IPAM}, Since: "0.3.0",
			Text: "If args.cni.ips requests an address, IP in CNI_ARGS is ignored.",
			Why:  "A runtime passes both to serve plugins of either age; they may differ.",
			How: "ADD with two different addresses of the pool: the result has the one of args, or none of them. " +
				"A plugin that delegates to an IPAM plugin is exempt.",
			check: checkConflictingAddresses,
		},
	}
}

// logDir is the directory on a node in which the stub logs its calls.
const logDir = "/opt/cni/cnitest/log"

// stubbed returns a bench on which a stub replaces the subject's IPAM plugin, and passes calls on to it.
func (t *trial) stubbed(ctx context.Context, on map[string]stub.Behaviour) (*bench, error) {
	if t.subject.ipam == "" {
		return nil, notApplicable("%s has no ipam", t.subject.Type)
	}
	b, err := t.bench(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err := b.node.Agent.InstallStubs(ctx); err != nil {
		return nil, err
	}
	b.node.BinDirs = append(slices.Clone(b.node.BinDirs), stub.Dir)
	b.order(on)
	return b, nil
}

// order tells the stub how to behave from now on.
func (b *bench) order(on map[string]stub.Behaviour) {
	config := maps.Clone(b.configs[b.subject.index])
	ipam, _ := config["ipam"].(map[string]any)
	if orders, ok := ipam[stub.Key].(stub.Orders); ok {
		ipam = orders.Delegate
	}
	replaced := maps.Clone(ipam)
	replaced["type"] = stub.IPAM
	replaced[stub.Key] = stub.Orders{Log: logDir, Delegate: ipam, On: on}
	config["ipam"] = replaced
	b.configs[b.subject.index] = config
}

func (b *bench) records(ctx context.Context) ([]stub.Record, error) {
	return b.node.Agent.StubRecords(ctx, logDir)
}

// recordsOf returns the calls of a verb.
func (b *bench) recordsOf(ctx context.Context, verb cni.Verb) ([]stub.Record, error) {
	all, err := b.records(ctx)
	return slices.DeleteFunc(all, func(r stub.Record) bool { return r.Verb != string(verb) }), err
}

// delegates checks that a verb calls the delegated plugin and returns its error.
func (t *trial) delegates(ctx context.Context, verb cni.Verb) error {
	const msg = "the stub says no"
	b, err := t.stubbed(ctx, nil)
	if err != nil {
		return err
	}
	p, err := b.attach(ctx, "first")
	if err != nil {
		return err
	}
	on := p
	var edits []func(*invocation)
	if verb == cni.GC || verb == cni.Status {
		on = nil
	}
	if verb == cni.GC {
		edits = append(edits, keeping(p))
	}
	call, err := b.call(ctx, verb, on, edits...)
	if err != nil {
		return err
	}
	records, err := b.recordsOf(ctx, verb)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		t.wrong([]cni.Call{call}, "%s does not call %s of the plugin that it delegates to", verb, verb)
		return nil
	}
	if verb == cni.GC && !strings.Contains(records[0].Stdin, p.id) {
		t.wrong([]cni.Call{call}, "GC of the delegated plugin does not get the valid attachments")
	}
	b.order(map[string]stub.Behaviour{string(verb): {Code: 50, Msg: msg}})
	if call, err = b.call(ctx, verb, on, edits...); err != nil {
		return err
	}
	if call.ExitCode == 0 {
		t.wrong([]cni.Call{call}, "%s succeeds although the plugin that it delegates to failed", verb)
	} else if answer, _ := failure(call); verb == cni.Status && answer.Code != 50 && answer.Code != 51 {
		t.wrong([]cni.Call{call}, "STATUS: the plugin that it delegates to says code 50, and it says %s", summary(call))
	}
	return nil
}

func checkDelegateInput(ctx context.Context, t *trial) error {
	b, err := t.stubbed(ctx, nil)
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del} {
		if !verb.In(t.version) {
			continue
		}
		call, err := b.call(ctx, verb, p)
		if err != nil {
			return err
		}
		if call.ExitCode != 0 && verb == cni.Add {
			return &addError{call}
		}
		records, err := b.recordsOf(ctx, verb)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			t.wrong([]cni.Call{call}, "%s does not call the plugin that it delegates to", verb)
			continue
		}
		for _, e := range call.Env {
			name, value, _ := strings.Cut(e, "=")
			if got, _ := records[0].Var(name); strings.HasPrefix(name, "CNI_") && got != value {
				t.wrong([]cni.Call{call}, "%s: the delegated plugin gets %s=%q, want %q", verb, name, got, value)
			}
		}
		var given, got map[string]any
		if json.Unmarshal([]byte(call.Stdin), &given) != nil || json.Unmarshal([]byte(records[0].Stdin), &got) != nil {
			t.wrong([]cni.Call{call}, "%s: the delegated plugin gets no JSON object", verb)
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(given)) {
			if !reflect.DeepEqual(given[key], got[key]) {
				t.wrong([]cni.Call{call}, "%s: the delegated plugin does not get %s as it was given", verb, key)
			}
		}
	}
	return nil
}

func checkDelegateLookup(ctx context.Context, t *trial) error {
	const line = "the stub writes to standard error"
	b, err := t.stubbed(ctx, map[string]stub.Behaviour{"ADD": {Stderr: line + "\n"}})
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	call, err := b.must(ctx, cni.Add, p)
	if err != nil {
		return err
	}
	switch {
	case call.ExitCode != 0:
		t.wrong([]cni.Call{call},
			"ADD with the delegated plugin in the second directory of CNI_PATH: want success, got %s", summary(call))
	case !strings.Contains(call.Stderr, line):
		t.wrong([]cni.Call{call}, "ADD does not pass the standard error of the delegated plugin on")
	}
	return nil
}

func checkDelegateErrors(ctx context.Context, t *trial) error {
	for _, verb := range []cni.Verb{cni.Del, cni.Check, cni.GC} {
		if !verb.In(t.version) {
			continue
		}
		if err := t.delegates(ctx, verb); err != nil {
			return err
		}
	}
	return nil
}

func checkDelegateRollback(ctx context.Context, t *trial) error {
	b, err := t.stubbed(ctx, map[string]stub.Behaviour{"ADD": {Code: 11, Msg: "the stub says no", After: true}})
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p)
	if err != nil {
		return err
	}
	if call.ExitCode == 0 {
		t.wrong([]cni.Call{call}, "ADD succeeds although the plugin that it delegates to failed")
		return nil
	}
	records, err := b.recordsOf(ctx, cni.Del)
	if err == nil && len(records) == 0 {
		t.wrong([]cni.Call{call}, "ADD fails since the delegated plugin did, and does not call its DEL")
	}
	return err
}

func checkConflictingAddresses(ctx context.Context, t *trial) error {
	if t.subject.ipam != "" {
		return notApplicable("%s leaves the addresses to %s, which is asked itself", t.subject.Type, t.subject.ipam)
	}
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	result, err := cni.ParseResult(l.pod.result)
	if err != nil || len(result.IPs) == 0 {
		return nil // ADD-2 reports it
	}
	// Both addresses are free, and neither is the next one.
	asked, other := result.IPs[0].Address, result.IPs[0].Address
	asked.IP, other.IP = shifted(asked.IP, 3), shifted(other.IP, 5)
	b, p, call, err := t.askTwoAddresses(ctx, asked, other)
	if err != nil {
		return err
	}
	if call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "ADD with args.cni.ips %s and CNI_ARGS IP=%s: want the first, got %s", asked.IP,
			other.IP, summary(call))
		return nil
	}
	if result, err = cni.ParseResult(p.result); err != nil {
		return nil // ADD-2 reports it
	}
	for _, ip := range result.IPs {
		if ip.Address.IP.Equal(asked.IP) {
			return nil
		}
		if ip.Address.IP.Equal(other.IP) {
			// A plugin that does not know one way may follow the other.
			return b.knowsIPs(ctx, asked, call)
		}
	}
	return notApplicable("%s knows neither args.cni.ips nor IP in CNI_ARGS", t.subject.Type)
}

// askTwoAddresses attaches a pod that asks for one address in args.cni.ips and for another in CNI_ARGS. A plugin may
// want their prefix lengths (CONVENTIONS.md), or may not know them there: it is asked in both ways.
func (t *trial) askTwoAddresses(ctx context.Context, asked, other net.IPNet) (*bench, *pod, cni.Call, error) {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return nil, nil, cni.Call{}, err
	}
	ask := func(asked, other string) (cni.Call, error) {
		return b.call(ctx, cni.Add, p, func(inv *invocation) {
			inv.config["args"] = map[string]any{"cni": map[string]any{"ips": []string{asked}}}
			inv.env["CNI_ARGS"] = "IgnoreUnknown=1;IP=" + other
		})
	}
	call, err := ask(asked.String(), other.String())
	if err != nil || call.ExitCode == 0 {
		return b, p, call, err
	}
	if b, p, err = t.fresh(ctx); err != nil {
		return nil, nil, call, err
	}
	call, err = ask(asked.IP.String(), other.IP.String())
	return b, p, call, err
}

// knowsIPs checks that a plugin which follows args.cni.ips without a contradiction always follows it.
func (b *bench) knowsIPs(ctx context.Context, asked net.IPNet, conflicting cni.Call) error {
	p, err := b.pod(ctx, "second")
	if err != nil {
		return err
	}
	if _, err := b.add(ctx, p, func(inv *invocation) {
		inv.config["args"] = map[string]any{"cni": map[string]any{"ips": []string{asked.String()}}}
	}); err != nil {
		return err
	}
	if strings.Contains(string(p.result), `"`+asked.IP.String()+`/`) {
		b.wrong([]cni.Call{conflicting}, "ADD follows IP of CNI_ARGS although args.cni.ips asks for %s", asked.IP)
		return nil
	}
	return notApplicable("%s does not know args.cni.ips", b.subject.Type)
}
