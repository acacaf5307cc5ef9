// Command chained is BROKEN ON PURPOSE: a negative control on which `make test` runs scenarios. Never install it.
//
// It is a chained plugin that passes the result on and has one fault, which the key `fault` of its configuration names;
// see faults for each fault and the failure mode that it shows (cnitest explain ID). With the key `delegate` it is the
// first plugin of the chain and calls that plugin first.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
)

type config struct {
	types.PluginConf
	Fault    string `json:"fault"`
	Delegate string `json:"delegate"`
	Master   string `json:"master"`
	// RuntimeConfig contains what the pod asks for by capabilities.
	RuntimeConfig struct {
		PortMappings []struct {
			HostPort, ContainerPort uint16
		} `json:"portMappings"`
	} `json:"runtimeConfig"`
	// Device is the device that host-device, a delegate, gives the pod.
	Device string `json:"device"`
	// Child is the device of the node that the pods share.
	Child string `json:"child"`
	// Service and Endpoint are a UDP address and port, and the ones to which own-proxy sends its packets.
	Service  netip.AddrPort `json:"service"`
	Endpoint netip.AddrPort `json:"endpoint"`
}

// call is an ADD or a DEL; result is nil for a DEL without one.
type call struct {
	*skel.CmdArgs
	config
	result *current.Result
}

// fault contains the functions that spoil ADD, DEL, CHECK and GC; nil changes nothing.
type fault struct {
	add, del, check func(*call) error
	gc              func() error
	// before runs before the delegate's ADD.
	before func(*call) error
}

func faults() map[string]fault {
	return map[string]fault{
		// E07: leaves a policy rule for each attachment.
		"leaks-rule": {add: addRule},
		// D13: leaves a file for each attachment.
		"leaks-file": {add: func(c *call) error { return write(c.ContainerID) }},
		// No fault: leaves the same file for all attachments, which is residue of the first use.
		"keeps-lock": {add: func(*call) error { return write("lock") }},
		// DEL-1: leaves a process for each attachment.
		"leaves-process": {add: linger},
		// C07: reduces the uplink's MTU.
		"shrinks-uplink": {add: shrink},
		// A07: removes the node's default route.
		"removes-default": {add: removeDefault},
		// G01: prints text on stdout in addition to the result.
		"prints-text": {add: func(*call) error { _, err := fmt.Println("attached"); return err }},
		// G03: returns a result of its own in place of prevResult.
		"own-result": {add: forgetInterfaces},
		// ADD Success: returns an address that no interface has.
		"wrong-address": {add: shiftAddresses},
		// E10: DEL removes what all pods share.
		"removes-shared": {del: func(c *call) error { return deleteLink(c.Child) }},
		// D04: DEL removes the route to its address, whoever has the address by now.
		"by-address": {del: removeRoutes},
		// E13: DEL removes the routes of the pod of this name, whichever container they are for.
		"by-pod-name": {add: noteRoutes, del: removeNotedRoutes},
		// H03: names a device after the first characters of the container ID.
		"short-id": {
			add: func(c *call) error { return makeBridge(shortName(c)) },
			del: func(c *call) error { return deleteLink(shortName(c)) },
		},
		// A12: each ADD sets the node's uplink down and up.
		"flaps": {add: flap},
		// H01: looks for a shared device, and makes it when others have had time to do the same.
		"races": {add: race},
		// No fault: forwards the ports that a pod asks for, as portmap does.
		"maps-port": {add: mapPort, del: func(*call) error { return removeTable() }},
		// B06: what the node forwards to the same port of others goes to the pod, too.
		"takes-port": {add: takePort, del: func(*call) error { return removeTable() }},
		// B06: the node drops what UDP clients go on sending when the pod is gone.
		"keeps-port": {del: func(*call) error {
			return arriving().install(udp(), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
		}},
		// "Lease" in scenarios: nothing is left to renew the pod's lease.
		"ends-leases": {add: killDHCP},
		// H03: the DHCP client sends the same client identifier for all pods.
		"one-client": {before: asContainer("one"), del: asContainer("one")},
		// C01: DEL releases the lease of a pod that does not exist.
		"keeps-lease": {del: asContainer("another")},
		// RES-1: gives the pod and the result another address than the requested one.
		"moves-address": {add: moveAddress},
		// C01: changes the pod's MAC and tells nobody.
		"silent": {add: changeMAC},
		// I01: a connection stalls after some megabytes.
		"stalls": {add: limit},
		// A03: pings pass, connections do not.
		"drops-tcp": {add: dropping(arriving, tcp()...)},
		// I01: only small packets pass.
		"drops-large": {add: dropping(arriving, large()...)},
		// A09: the node has a permanent neighbour for the pod with a MAC that the pod never had.
		"wrong-neighbour": {add: pinWrongMAC},
		// A09: the pod does not answer requests for its MAC.
		"ignores-arp": {add: ignoreARP},
		// A01: the node sends packets for the pod to another device.
		"wrong-route": {add: routeElsewhere},
		// I03: the same on a node that checks the reverse path of the pod's packets.
		"strict-way-back": {add: func(c *call) error { return errors.Join(routeElsewhere(c), filterStrictly(c)) }},
		// No fault: the node accepts from a pod only what it would send back there.
		"strict-node-side": {add: filterStrictly},
		// K15: the node looks at the source of new connections only.
		"checks-new-connections": {add: checkNewConnections},
		// A01: the node drops packets for the pod, by a route and by a rule.
		"blackhole-route":  {add: blackhole},
		"unreachable-rule": {add: refuseByRule},
		// I04: the node's firewall drops packets that it would forward to the pod.
		"drops-forwarded": {add: dropForwarded},
		// A01: the pod reaches others, but nobody reaches the pod; and the other way round.
		"drops-incoming": {add: dropping(arriving, newConnection()...)},
		"drops-outgoing": {add: dropping(leaving, newConnection()...)},
		// I08: only one family works.
		"drops-ipv6": {add: dropping(arriving6)},
		// E10: the node reaches only the last pod.
		"breaks-others": {add: removeOtherRoutes},
		// I03: each attachment increases a setting of the node by one.
		"raises-sysctl": {add: raiseSetting},
		// "untranslated" in scenarios: the node translates the addresses of its pods to its own.
		"masquerades": {add: masquerade},
		// G05: CHECK, like the delegate's, insists on things that a later plugin may change.
		"strict-check": {},
		// A08: pins the MAC that the pod had at the head of the chain, where this plugin is as well, with a delegate.
		"first-mac": {add: pinFirstMAC},
		// B03, B04: packets that the proxy masquerades keep their own address.
		"keeps-clients": {add: keepClients},
		// B09: packets that the node forwards get the address of its first NIC, whichever link they leave by.
		"first-nic": {add: translateToFirstNIC},
		// B06: the pod has its own proxy, to an endpoint that a service had once.
		"own-proxy": {add: proxy},
		// B07: the pod's service interface has no address.
		"no-address": {add: removeAddresses},
		// A11: replies leave by another interface than the one on which their connection arrived.
		"forgets-way-in": {add: forgetWayIn},
		// I03: strict reverse path filters look up the reverse path without the mark that decides it.
		"unmarked-way-back": {add: ignoreMarks},
		// H04: there are more pods than routing tables.
		"few-tables": {add: shareTable},
		// K03: the router gets a copy of packets to the node.
		"mirrors": {add: mirror},
		// host-to-pod: only datagrams do not arrive.
		"drops-udp": {add: dropping(arriving, udp()...)},
		// large-datagrams: datagrams that do not fit into one packet do not arrive.
		"drops-fragments": {add: dropping(earliest, fragments()...)},
		// pod-churn: one of twenty packets is lost.
		"loses": {add: dropping(arriving, oneIn(20)...)},
		// TestLoad: one of two hundred packets is lost.
		"loses-rarely": {add: dropping(arriving, oneIn(200)...)},
		// TestLoad: a daemon without which no packet arrives stops for three seconds.
		"pauses": {add: pauseLater},
		// TestLoad: DEL takes forty seconds.
		"deletes-late": {del: func(*call) error { time.Sleep(40 * time.Second); return nil }},
		// underlay-groups: broadcasts and multicasts do not arrive.
		"drops-groups": {add: dropping(arriving, groupTraffic()...)},
		// external-to-pod: the router drops packets of the pod.
		"lowers-ttl": {add: lowerTTL},
		// B07, G03: removes routes that earlier plugins made in the pod and the result still lists.
		"removes-pod-default": {add: removePodDefault},
		"removes-pod-link":    {add: func(c *call) error { return inPod(c, netlink.LinkDel) }},
		// No fault: requests a feature that a kernel without CONFIG_NFT_QUEUE lacks.
		"needs-queue": {check: queue},
		// No fault: calls a program that is installed nowhere.
		"needs-program": {add: func(*call) error { return exec.Command("cnitest-no-such-program").Run() }},
		// ADD: does not find a program that every machine has, since it looks in one directory only.
		"misses-program": {add: missProgram},
		// CHK-6, DEL-4: makes a request that the kernel refuses.
		"refused-check": {check: removeNothing},
		"refused-del":   {del: removeNothing},
		// J09: DEL with the key master wants what only ADD with that key has made.
		"master-since": {add: noteMaster, del: wantMaster},
		// J07, DEL-2: DEL of an attachment of which there is no result, since its ADD failed, fails.
		"needs-result": {del: func(c *call) error {
			if c.result == nil {
				return errors.New("no result of ADD")
			}
			return nil
		}},
		// "several-networks" in scenarios: a second interface sets the pod's first one down.
		"takes-first-down": {add: lowerFirst},
		// No fault: devices are returned as they were, which host-device alone does not do.
		"returns-devices": {before: recordDevice, del: returnDevice},
		// DEL-1: the device gets another MTU in the pod, and keeps it.
		"keeps-mtu": {before: recordDevice, add: shrinkInPod, del: returnDevice},
		// DEL-1: the device comes back with its link in promiscuous mode, or without its other name.
		"keeps-promiscuity": {before: recordDevice, del: thenDevice(netlink.SetPromiscOn)},
		"loses-altname":     {before: recordDevice, del: thenDevice(removeAltNames)},
		// GC-6: GC deletes the devices of other networks.
		"collects-all": {gc: deleteVeths},
		// I04: removes the rules of others from FORWARD.
		"empties-forward": {add: emptyForward},
		// I06: something that pods need is made once, and an event of the node ends it; CHECK does not look at it.
		"rule-once":    {add: routeByRule},
		"mark-once":    {add: routeByMark},
		"way-out-once": {add: leaveByTable, del: forgetRules},
		// I17, I15: the same marks in a table of iptables; I16: pods are accepted in a chain of ufw.
		"iptables-once":  {add: routeByIptablesMark},
		"accepts-in-ufw": {add: acceptInUFW},
		"uplink-source":  {add: routeFromUplink},
		// I20: the ports of the uplink, a bond or a bridge, have filters since the first ADD.
		"ports-once": {add: filterPorts},
		// I19: the nft of Debian 12 cannot list the ruleset.
		"unlistable": {add: lookUpClient},
		// I06: CHECK looks, and nobody restores; or ADD restores too much.
		"rule-checked": {add: routeByRule, check: missesRule},
		"rule-twice":   {add: routeByRuleAgain, check: missesRule},
		// J05, I14: the pod's permanent neighbour has a MAC of the node's end that udev changes.
		"pins-node-mac": {add: pinNodeMAC},
	}
}

func main() {
	switch {
	case len(os.Args) > 1 && os.Args[1] == lingering:
		time.Sleep(time.Minute) // the node that it runs on ends long before
		return
	case len(os.Args) > 2 && os.Args[1] == pausing:
		if err := pause(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check, GC: gc}, version.All, "broken on purpose")
}

func parse(args *skel.CmdArgs) (*call, fault, error) {
	c := &call{CmdArgs: args}
	if err := json.Unmarshal(args.StdinData, &c.config); err != nil {
		return nil, fault{}, err
	}
	f, known := faults()[c.Fault]
	if !known {
		return nil, fault{}, fmt.Errorf("fault %q: want one of %v", c.Fault, slices.Sorted(maps.Keys(faults())))
	}
	if err := version.ParsePrevResult(&c.PluginConf); err != nil || c.PrevResult == nil {
		return c, f, err
	}
	var err error
	c.result, err = current.NewResultFromResult(c.PrevResult)
	return c, f, err
}

func add(args *skel.CmdArgs) error {
	c, f, err := parse(args)
	if err != nil {
		return err
	}
	if f.before != nil {
		if err := f.before(c); err != nil {
			return err
		}
	}
	if c.Delegate != "" {
		result, err := invoke.DelegateAdd(context.Background(), c.Delegate, args.StdinData, nil)
		if err != nil {
			return err
		}
		if c.result, err = current.NewResultFromResult(result); err != nil {
			return err
		}
	}
	if f.add != nil {
		if err := f.add(c); err != nil {
			return err
		}
	}
	return types.PrintResult(c.result, c.CNIVersion)
}

func del(args *skel.CmdArgs) error {
	c, f, err := parse(args)
	if err != nil {
		return err
	}
	if f.del != nil {
		if err := f.del(c); err != nil {
			return err
		}
	}
	if c.Delegate != "" {
		return invoke.DelegateDel(context.Background(), c.Delegate, args.StdinData, nil)
	}
	return nil
}

func gc(args *skel.CmdArgs) error {
	_, f, err := parse(args)
	if err != nil || f.gc == nil {
		return err
	}
	return f.gc()
}

func check(args *skel.CmdArgs) error {
	c, f, err := parse(args)
	if err == nil && f.check != nil {
		err = f.check(c)
	}
	if err != nil || c.Delegate == "" {
		return err
	}
	return invoke.DelegateCheck(context.Background(), c.Delegate, args.StdinData, nil)
}
