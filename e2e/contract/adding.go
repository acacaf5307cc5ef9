package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types020 "github.com/containernetworking/cni/pkg/types/020"
	types040 "github.com/containernetworking/cni/pkg/types/040"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// adding returns the requirements about ADD and its result.
func adding() []Requirement {
	return []Requirement{
		{
			ID: "ADD-1", Level: Should, Section: "2, ADD", Roles: inChain(),
			Text: "ADD makes the interface CNI_IFNAME in the namespace CNI_NETNS, or adjusts it.",
			Why:  "This is the purpose of a plugin.",
			How: "Compares node and pod before and after. The interface is up, and has a transmit queue: one of " +
				"length 0 makes most of what limits or orders packets drop them. A chained plugin that changes " +
				"nothing and passes the result on is vacuous.",
			each: true, check: checkAdds,
		},
		{
			ID: "ADD-2", Level: Must, Section: "2, ADD; 5, Add success", Roles: everyPlugin(),
			Text: "ADD succeeds if nothing is wrong, and prints a result in the format of the version.",
			Why:  "Runtimes take addresses, routes and names from it, and give it to CHECK and DEL.",
			How: "Decodes the result in the format of each version: no required key is missing, and no key is " +
				"unknown. Until 0.2.0 it has ip4 and ip6, then lists; until 0.4.0 addresses have a version.",
			each: true, check: checkResultFormat,
		},
		{
			ID: "ADD-3", Level: Must, Section: "2, ADD", Roles: []Role{Chained}, Covers: []string{"G03"},
			Text: "A plugin that gets prevResult passes it on, with its own additions.",
			Why: "CHECK and DEL of the plugins before it get this result: they can neither check nor delete " +
				"what is missing in it.",
			How: "Every interface, address, route and DNS entry of prevResult is in the result, with its sandbox; " +
				"the MAC of an interface may change.",
			each: true, check: checkPassesOn,
		},
		{
			ID: "ADD-4", Level: Must, Section: "5, Add success", Roles: []Role{Chained}, Since: "0.3.0",
			Text: "A plugin that changes nothing prints a result equal to prevResult.",
			Why:  "The last plugin's result is all that the runtime keeps.",
			How:  "If ADD changed nothing on node and pod, result and prevResult are compared as JSON.",
			each: true, check: checkUnchangedResult,
		},
		{
			ID: "ADD-5", Level: Must, Section: "2, ADD", Roles: []Role{Main}, Covers: []string{"F05"},
			Text:  "ADD fails if the pod already has an interface of that name, and leaves that interface as it is.",
			Why:   "Two sandboxes of one pod, or an ADD that is repeated, would take over each other's interface.",
			How:   "Makes an interface eth0 in the pod first: ADD fails, and node and pod look as before.",
			check: checkTakenName,
		},
		{
			ID: "ADD-7", Level: Must, Section: "2, ADD", Roles: []Role{Chained}, Since: "0.3.0",
			Covers: []string{"G03"},
			Text:   "A plugin passes on every key of prevResult, also those that this conflist leaves empty.",
			Why: "A plugin that copies the fields that it knows loses DNS, route metrics and device ids in the " +
				"first conflist that has them.",
			How: "ADD with a prevResult that has all of dns, a further route with mtu and advmss, and pciID and " +
				"socketPath of an interface: all of it is in the result.",
			check: checkPassesOnAll,
		},
		{
			ID: "ADD-8", Level: Should, Section: "2, ADD", Roles: inChain(), Since: "0.3.0",
			Text: "ADD leaves the pod's other interfaces as they are, lo first of all.",
			Why:  "Programs in a pod talk to each other over lo, and its other networks have their own plugins.",
			How: "Compares the links and addresses of the pod before and after ADD that are neither CNI_IFNAME nor " +
				"in prevResult. A device of the node may have the name of another interface of the pod.",
			check: checkLeavesOthers,
		},
		{
			ID: "RES-1", Level: Must, Section: "5, Add success", Roles: everyPlugin(), Since: "0.2.0",
			Text: "The cniVersion of the result is that of the input.",
			Why:  "The next plugin of the chain reads it in that version.",
			How:  "ADD at each version.",
			each: true, check: checkResultVersion,
		},
		{
			ID: "RES-2", Level: Stated, Section: "5, Add success, interfaces", Roles: inChain(), Since: "0.3.0",
			Text: "The result lists all interfaces that ADD made, those on the node included: with the pod's " +
				"namespace as sandbox inside, with none outside.",
			Why:  "Runtimes and other plugins find the node's end of a pod in it; bandwidth and portmap use it.",
			How:  "Compares the links that appeared with the result, and the result with the links that exist.",
			each: true, check: checkInterfaces,
		},
		{
			ID: "RES-3", Level: Stated, Section: "5, Add success, interfaces and ips", Roles: inChain(), Since: "0.3.0",
			Covers: []string{"I01", "I08"},
			Text:   "MAC, MTU, addresses and gateways of the result are those in the kernel.",
			Why:    "CHECK, announcements on the network and the status of the pod use them.",
			How: "Each interface's mac and mtu, each address on the interface that its index names, each gateway " +
				"in the address's network.",
			each: true, check: checkAddresses,
		},
		{
			ID: "RES-4", Level: Stated, Section: "5, Add success, routes", Roles: []Role{Main}, Since: "0.3.0",
			Covers: []string{"A06"},
			Text:   "The routes of the result exist in the pod.",
			Why:    "A pod without its default route works until it needs something outside its subnet.",
			How: "Looks each up in the pod: destination, gateway, and the MTU, priority, " +
				"table and scope in the result.",
			each: true, check: checkRoutes,
		},
		{
			ID: "RES-5", Level: Must, Section: "5, Delegated plugins (IPAM)", Roles: []Role{IPAM}, Since: "0.3.0",
			Text: "The result of an IPAM plugin has no interfaces, and its addresses name none.",
			Why: "The delegating plugin fills them in; an index into a list that the IPAM plugin did not make " +
				"points to nothing.",
			How:  "Reads the result of ADD at each version.",
			each: true, check: checkNoInterfaces,
		},
	}
}

func checkAdds(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	if t.subject.Role == Main {
		made := slices.ContainsFunc(l.made, func(c snapshot.Change) bool {
			return c.Op == snapshot.Added && c.Item.Scope == l.pod.name && c.Item.Kind == snapshot.Link &&
				c.Item.Name == l.pod.ifName
		})
		if !made {
			t.wrong([]cni.Call{l.add}, "ADD succeeds and makes no interface %s in the pod", l.pod.ifName)
		}
		t.wantUp(l)
		t.wantQueues(l)
		return nil
	}
	if len(l.made) == 0 {
		return vacuousError("ADD succeeds and changes nothing, neither on the node nor in the pod")
	}
	return nil
}

func checkResultFormat(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if failed, ok := asAddError(err); ok {
		t.wrong([]cni.Call{failed.call}, "ADD: %s", summary(failed.call))
		return nil
	}
	if err != nil {
		return err
	}
	if l.pod.result == nil {
		t.wrong([]cni.Call{l.add}, "ADD succeeds and prints no JSON document: %s", summary(l.add))
		return nil
	}
	var target any
	switch {
	case !atLeast(t.version, "0.3.0"):
		target = &types020.Result{}
	case !atLeast(t.version, "1.0.0"):
		target = &types040.Result{}
	default:
		target = &types100.Result{}
	}
	decoder := json.NewDecoder(bytes.NewReader(l.pod.result))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		t.wrong([]cni.Call{l.add}, "the result of ADD is not one of CNI %s: %v", t.version, err)
		return nil
	}
	// What the plugins before it said wrongly is theirs.
	given := misformatted(t.version, l.pod.before)
	for _, wrong := range misformatted(t.version, l.pod.result) {
		if slices.Contains(given, wrong) {
			continue
		}
		t.wrong([]cni.Call{l.add}, "the result of ADD is not one of CNI %s: %s", t.version, wrong)
	}
	if result, err := cni.ParseResult(l.pod.result); err != nil {
		t.wrong([]cni.Call{l.add}, "the result of ADD: %v", err)
	} else if t.subject.Role == IPAM && len(result.IPs) == 0 {
		t.wrong([]cni.Call{l.add}, "ADD succeeds and gives no address")
	}
	return nil
}

func checkPassesOn(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	before, after, ok := l.results()
	if !ok {
		return nil
	}
	lost := func(format string, args ...any) {
		t.wrong([]cni.Call{l.add}, "prevResult has "+format+", and the result has not", args...)
	}
	for _, i := range before.Interfaces {
		if !slices.ContainsFunc(after.Interfaces, func(o *types100.Interface) bool {
			return o.Name == i.Name && o.Sandbox == i.Sandbox
		}) {
			lost("the interface %s with sandbox %q", i.Name, i.Sandbox)
		}
	}
	named := func(r *cni.Result, ip *types100.IPConfig) string {
		if ip.Interface == nil || *ip.Interface < 0 || *ip.Interface >= len(r.Interfaces) {
			return ""
		}
		return r.Interfaces[*ip.Interface].Name
	}
	for _, ip := range before.IPs {
		if !slices.ContainsFunc(after.IPs, func(o *types100.IPConfig) bool {
			return o.Address.String() == ip.Address.String() && named(after, o) == named(before, ip)
		}) {
			lost("the address %s of %q", ip.Address.String(), named(before, ip))
		}
	}
	for _, r := range before.Routes {
		// A plugin may change the destination interface, and says so in its result.
		led := func(o *types.Route) bool {
			return routeDeviation(l.attached.Items, l.pod.name, o) == ""
		}
		if !slices.ContainsFunc(after.Routes, func(o *types.Route) bool {
			return o.Dst.String() == r.Dst.String() && (o.GW.Equal(r.GW) || led(o))
		}) {
			lost("the route to %s", r.Dst.String())
		}
	}
	for _, server := range before.DNS.Nameservers {
		if !slices.Contains(after.DNS.Nameservers, server) {
			lost("the name server %s", server)
		}
	}
	return nil
}

func checkUnchangedResult(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	if len(l.made) > 0 {
		return notApplicable("ADD makes something: %s", first(l.made))
	}
	var before, after any
	if json.Unmarshal(l.pod.before, &before) != nil || json.Unmarshal(l.pod.result, &after) != nil {
		return nil // ADD-2 reports it
	}
	if !reflect.DeepEqual(before, after) {
		t.wrong([]cni.Call{l.add}, "ADD changes nothing, and its result is not equal to prevResult")
	}
	return nil
}

func checkTakenName(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	if err := b.node.Agent.AddBridge(ctx, agent.ObstacleArgs{Netns: p.netns, Name: p.ifName}); err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	return b.refused(ctx, before, p, "ADD where the pod has an interface "+p.ifName)
}

func checkResultVersion(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	var result struct {
		CNIVersion string `json:"cniVersion"`
	}
	if json.Unmarshal(l.pod.result, &result) == nil && result.CNIVersion != t.version {
		t.wrong([]cni.Call{l.add}, "ADD was asked at CNI %s, and its result has cniVersion %q", t.version,
			result.CNIVersion)
	}
	return nil
}

// wantUp checks that the pod's interface is up: nobody sets it up after ADD, also if it has no address.
func (t *trial) wantUp(l *lifecycle) {
	for _, c := range l.made {
		flags, _, _ := strings.Cut(c.Item.Text, ">")
		if c.Op == snapshot.Added && c.Item.Scope == l.pod.name && c.Item.Kind == snapshot.Link &&
			c.Item.Name == l.pod.ifName && !slices.Contains(strings.Split(strings.TrimPrefix(flags, "<"), ","), "UP") {
			t.wrong([]cni.Call{l.add}, "ADD leaves the interface %s down", c.Item.Name)
		}
	}
}

// wantQueues checks that the links that ADD made in the pod have a transmit queue. All kinds that plugins make are
// Ethernet devices, for which the kernel chooses 1000 packets (net/ethernet/eth.c, ether_setup), unless who makes them
// asks for another length. A device that was on the node before is as whoever made it wanted it.
func (t *trial) wantQueues(l *lifecycle) {
	moved := slices.ContainsFunc(l.made, func(c snapshot.Change) bool {
		return c.Op == snapshot.Removed && c.Item.Scope != l.pod.name && c.Item.Kind == snapshot.Link
	})
	for _, c := range l.made {
		if !moved && c.Op == snapshot.Added && c.Item.Scope == l.pod.name && c.Item.Kind == snapshot.Link &&
			strings.Contains(c.Item.Text, " qlen 0 ") {
			t.wrong([]cni.Call{l.add}, "ADD makes the interface %s with a transmit queue of length 0", c.Item.Name)
		}
	}
}
