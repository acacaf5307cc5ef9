package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// asFailureMode completes a requirement that is a failure mode, and has its id.
func asFailureMode(r Requirement) Requirement {
	r.Level, r.Section, r.Covers = Should, "failure mode", append([]string{r.ID}, r.Covers...)
	return r
}

// failures returns the failure modes that users met, that one plugin alone can show, and that no sentence of the
// specification covers.
func failures() []Requirement {
	return []Requirement{
		asFailureMode(Requirement{
			ID: "A07", Roles: []Role{Main},
			Text: "A second interface leaves the routes of the first as they are.",
			Why:  "With two default routes, half of the pod's traffic goes to a gateway that is on the wrong network.",
			How: "ADD of net1 in a pod that has eth0: the routes that were there are still there, unchanged. A " +
				"plugin that refuses a second interface is exempt.",
			check: checkSecondInterface,
		}),
		asFailureMode(Requirement{
			ID: "A08", Roles: inChain(),
			Text: "A permanent neighbour entry has a MAC address that exists.",
			Why: "udev gives links their final MAC after ADD; an entry that was made before has the wrong MAC, and " +
				"never expires.",
			How: "After ADD, and two seconds later, each permanent entry that ADD made has the MAC of a link on " +
				"the node or in the pod.",
			check: checkNeighbours,
		}),
		asFailureMode(Requirement{
			ID: "C03", Roles: []Role{Main},
			Text: "An ADD that finds its address in use on the network releases it.",
			Why:  "Otherwise the pool gets smaller with each attempt.",
			How: "A machine on the network has the next address of the pool. A plugin that does not check for that " +
				"is exempt.",
			check: checkDuplicateAddress,
		}),
		asFailureMode(Requirement{
			ID: "C04", Roles: []Role{Main},
			Text:  "ADD on an uplink that something else uses exclusively is an error that leaves nothing.",
			Why:   "On one uplink macvlan and ipvlan exclude each other, and both exclude a bridge.",
			How:   "The uplink is the port of a bridge. Plugins that work there are exempt.",
			check: checkOwnedUplink,
		}),
		asFailureMode(Requirement{
			ID: "C05", Roles: []Role{Main},
			Text: "If a multicast MAC address is requested, ADD is an error that leaves nothing.",
			Why:  "The kernel refuses it half way through.",
			How: "ADD with 01:00:5e:00:00:01 in runtimeConfig.mac, args.cni.mac and CNI_ARGS. A plugin that knows " +
				"none of them is exempt.",
			check: checkMulticastMAC,
		}),
		asFailureMode(Requirement{
			ID: "C07", Roles: inChain(),
			Text:  "ADD leaves the uplink its MAC and its MTU.",
			Why:   "Everything else on the node uses them too.",
			How:   "Compares the uplink before and after ADD.",
			check: checkUplink,
		}),
		asFailureMode(Requirement{
			ID: "D07", Roles: inChain(),
			Text: "A failed ADD, followed by DEL, keeps no address: with one address in the pool the next ADD " +
				"succeeds.",
			Why: "Attempts to start a failing pod go on until the pool is empty.",
			How: "A pool of one address; ADD with an interface in the way fails, DEL, ADD again. On a fresh node, " +
				"ADD that fails since its IPAM plugin does, DEL, and ADD of the next pod.",
			check: checkNextAfterFailure,
		}),
		asFailureMode(Requirement{
			ID: "D08", Roles: []Role{Main},
			Text: "An ADD that gets an address of only one family releases it.",
			Why:  "The pool of the other family is used up by pods that never start.",
			How: "On a conflist of two families the pool of IPv6 is one address: the second ADD fails and leaves " +
				"nothing.",
			check: checkPartialAllocation,
		}),
		asFailureMode(Requirement{
			ID: "D12", Roles: everyPlugin(),
			Text:  "DEL deletes everything that an ADD at an older version made.",
			Why:   "Somebody raises cniVersion in the conflist of a running cluster.",
			How:   "ADD at the oldest version since 0.3.0, DEL at the newest.",
			check: checkUpgrade,
		}),
		asFailureMode(Requirement{
			ID: "D15", Roles: []Role{Main},
			Text: "DEL gives an address back when the pod has it no longer.",
			Why: "The next pod may get it at once, and the kernel of the former one still answers for it: neighbours " +
				"remember the wrong MAC.",
			How: "A stub in the place of the IPAM plugin looks at the pod's interface when its DEL is called. With " +
				"dhcp, which needs the interface for that, nothing is asked.",
			check: checkReleasesLast,
		}),
		asFailureMode(Requirement{
			ID: "F01", Roles: []Role{Main},
			Text:  "An ADD whose IPAM plugin fails leaves nothing.",
			Why:   "The link that stays has the name that the next ADD needs.",
			How:   "A stub in the place of the IPAM plugin fails; node and pod look as before.",
			check: checkFailingIPAM,
		}),
		asFailureMode(Requirement{
			ID: "F04", Roles: []Role{Main},
			Text:  "ADD that failed can be repeated without DEL.",
			Why:   "Code 11 asks runtimes to do exactly that.",
			How:   "A stub in the place of the IPAM plugin fails twice; the third ADD succeeds.",
			check: checkRetry,
		}),
		asFailureMode(Requirement{
			ID: "F06", Roles: inChain(),
			Text:  "ADD with the node's own namespace in CNI_NETNS is an error that leaves nothing.",
			Why:   "skel notices it only after the plugin has changed the node.",
			How:   "ADD with CNI_NETNS=/proc/1/ns/net.",
			check: checkOwnNamespace,
		}),
		asFailureMode(Requirement{
			ID: "F07", Roles: inChain(),
			Text:  "ADD without the uplink is an error that names it, and leaves nothing.",
			Why:   "Interfaces have other names after an upgrade of the system.",
			How:   "Renames the uplink; if ADD fails, its message has the name.",
			check: checkMissingUplink,
		}),
		asFailureMode(Requirement{
			ID: "G11", Roles: []Role{Chained, IPAM},
			Text: "A chained plugin without prevResult, and an IPAM plugin without ipam, prints an error object.",
			Why:  "A user may list it first, or forget the key, and a panic explains nothing.",
			How: "ADD without the key, for IPAM plugins with an address in CNI_ARGS: success or an error object, and " +
				"nothing is left of the latter.",
			check: checkNoPrevResult,
		}),
		asFailureMode(Requirement{
			ID: "G13", Roles: []Role{Main},
			Text: "The result has the DNS settings that the IPAM plugin answers, unless the configuration has its own.",
			Why: "Name servers that an administrator wrote into ipam, or that a DHCP server gave, are lost, and pods " +
				"have none.",
			How:   "A stub in the place of the IPAM plugin answers a name server and a search domain.",
			check: checkKeepsDNS,
		}),
		asFailureMode(Requirement{
			ID: "H05", Roles: []Role{Main},
			Text: "A plugin that was killed keeps no lock.",
			Why:  "Every further pod of the node waits for it.",
			How: "A stub in the place of the IPAM plugin hangs, the runtime kills the ADD; ADD of another pod " +
				"succeeds.",
			check: checkKilledHolder,
		}),
		asFailureMode(Requirement{
			ID: "I02", Roles: inChain(),
			Text: "IPv6 addresses can be used when ADD returns.",
			Why: "A server that binds to its address at once gets EADDRNOTAVAIL while the kernel looks for " +
				"duplicates. One that is in use the pod does not get at all.",
			How: "No address in the pod is tentative or dadfailed after ADD, also if a machine on the network has " +
				"it: then ADD fails.",
			check: checkTentative,
		}),
		asFailureMode(Requirement{
			ID: "I04", Roles: inChain(),
			Text: "On a node without iptables and similar programs ADD works, and so does its DEL, or ADD answers " +
				"with an error and leaves nothing.",
			Why:   "Some distributions ship only nft, or neither; a pod that asked for no port needs neither.",
			How:   "ADD with PATH=/nonexistent, and DEL if it succeeds.",
			check: checkWithoutPrograms,
		}),
	}
}

func checkSecondInterface(ctx context.Context, t *trial) error {
	b, p, err := t.attached(ctx)
	if err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	second := *p
	second.ifName = "net1"
	call, err := b.call(ctx, cni.Add, &second)
	if err != nil {
		return err
	}
	if call.ExitCode != 0 {
		return notApplicable("%s gives a pod one interface", t.subject.Type)
	}
	after, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	for _, c := range snapshot.Diff(before, after) {
		if c.Item.Scope == p.name && c.Item.Kind == snapshot.Route && c.Op != snapshot.Added {
			t.wrong([]cni.Call{call}, "ADD of a second interface: %s", c)
		}
	}
	return nil
}

func checkNeighbours(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	call, err := b.add(ctx, p)
	if err != nil {
		return err
	}
	entries := 0
	for _, wait := range []time.Duration{0, settling} {
		if err := timing.Sleep(ctx, wait); err != nil {
			return err
		}
		after, err := b.state(ctx, p)
		if err != nil {
			return err
		}
		macs := map[string]bool{}
		for _, path := range []string{"", p.netns} {
			links, err := b.node.Agent.Links(ctx, path)
			if err != nil {
				return err
			}
			for _, l := range links {
				macs[strings.ToLower(l.MAC)] = true
			}
		}
		for _, c := range snapshot.Diff(before, after) {
			mac := following(c.Item.Text, "lladdr")
			if c.Item.Kind != snapshot.Neighbour || c.Op == snapshot.Removed || mac == "" {
				continue
			}
			entries++
			if !macs[mac] {
				t.wrong([]cni.Call{call}, "%s%s has a MAC that no link has", c.Item.Kind+" "+c.Item.Name+": "+
					c.Item.Text, place(c))
			}
		}
		if entries == 0 {
			return notApplicable("ADD makes no permanent neighbour entry")
		}
	}
	return nil
}

// following returns the word after another one in a text.
func following(text, word string) string {
	words := strings.Fields(text)
	if i := slices.Index(words, word); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}

func checkMulticastMAC(ctx context.Context, t *trial) error {
	const mac = "01:00:5e:00:00:01"
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	call, failed, err := b.failsCleanly(ctx, p, "with the MAC "+mac, func(inv *invocation) {
		inv.config["runtimeConfig"] = map[string]any{"mac": mac}
		inv.config["args"] = map[string]any{"cni": map[string]any{"mac": mac}}
		inv.env["CNI_ARGS"] = "IgnoreUnknown=1;MAC=" + mac
	})
	if err != nil || failed {
		return err
	}
	if strings.Contains(strings.ToLower(call.Stdout), mac) {
		t.wrong([]cni.Call{call}, "ADD gives the pod the multicast address %s", mac)
		return nil
	}
	return notApplicable("%s gives pods no MAC that is asked for", t.subject.Type)
}

func checkUpgrade(ctx context.Context, t *trial) error {
	old := ""
	for _, v := range t.subject.versions {
		if atLeast(v, "0.3.0") {
			old = v
			break
		}
	}
	if old == "" || old == t.version {
		return notApplicable("%s supports only one version since 0.3.0", t.subject.Type)
	}
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	b.version = old
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	if _, err := b.add(ctx, p); err != nil {
		return err
	}
	b.version = t.subject.newest()
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return nil // ADD-2 reports it
	}
	if p.result, err = encode(result, b.version); err != nil {
		return err
	}
	call, err := b.must(ctx, cni.Del, p)
	if err != nil {
		return err
	}
	return b.gone(ctx, call, before, fmt.Sprintf("DEL at CNI %s of what ADD at %s made", b.version, old), p)
}

func checkNoPrevResult(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	missing := "prevResult"
	if t.subject.Role == IPAM {
		missing = "ipam"
	}
	_, _, err = b.failsCleanly(ctx, p, "without "+missing, func(inv *invocation) {
		delete(inv.config, missing)
		if t.subject.Role == IPAM {
			inv.env["CNI_ARGS"] = "IgnoreUnknown=1;IP=192.0.2.9/24"
		}
	})
	return err
}

func checkTentative(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	asked := false
	for _, i := range l.attached.Items {
		if i.Scope != l.pod.name || i.Kind != snapshot.Address || !strings.Contains(i.Name, ":") ||
			strings.HasPrefix(i.Name, "fe80:") {
			continue
		}
		asked = true
		for _, flag := range []string{"tentative", "dadfailed"} {
			if slices.Contains(strings.Fields(i.Text), flag) {
				t.wrong([]cni.Call{l.add}, "the pod's address %s is %s when ADD returns", i.Name, flag)
			}
		}
	}
	if !asked {
		return notApplicable("the pod gets no IPv6 address")
	}
	return t.noticesDuplicates(ctx)
}

// noticesDuplicates checks an ADD whose address another machine has. Where the kernel looks for duplicates of IPv6
// addresses (RFC 4862, section 5.4), one that is in use does not work, and nobody but the plugin could tell the pod.
func (t *trial) noticesDuplicates(ctx context.Context) error {
	b, p, err := t.besideDuplicates(ctx)
	var none notApplicableError
	if errors.As(err, &none) || err == nil && b == nil {
		return nil
	}
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p)
	if err != nil || call.ExitCode != 0 {
		return err // C03 asks what it leaves
	}
	state, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	for _, i := range state.Items {
		if i.Scope == p.name && i.Kind == snapshot.Address && slices.Contains(strings.Fields(i.Text), "dadfailed") {
			t.wrong([]cni.Call{call}, "ADD succeeds, and the kernel found the pod's address %s in use", i.Name)
			return nil
		}
	}
	return nil
}
