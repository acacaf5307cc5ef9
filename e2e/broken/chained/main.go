// Command chained is BROKEN ON PURPOSE: a negative control that `make test` runs scenarios against, never to be
// installed.
//
// It is a chained plugin that passes the result on and has the one fault that the key `fault` of its configuration
// names; see faults for what each is and which failure mode it shows (cnitest explain ID). With the key `delegate` it
// stands at the head of the chain and hands everything to that plugin first.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
)

type config struct {
	types.PluginConf
	Fault    string `json:"fault"`
	Delegate string `json:"delegate"`
	Master   string `json:"master"`
	// Device is what host-device, a delegate, gives the pod.
	Device string `json:"device"`
	// Child is the node's device that the pods share.
	Child string `json:"child"`
	// Service and Endpoint are an address and port of UDP, and where own-proxy sends what goes there.
	Service  netip.AddrPort `json:"service"`
	Endpoint netip.AddrPort `json:"endpoint"`
}

// call is an ADD or a DEL; result is nil on a DEL without one.
type call struct {
	*skel.CmdArgs
	config
	result *current.Result
}

// fault has the functions that spoil ADD, DEL, CHECK and GC; nil does nothing.
type fault struct {
	add, del, check func(*call) error
	gc              func() error
	// before is what happens before the delegate's ADD.
	before func(*call) error
}

func faults() map[string]fault {
	return map[string]fault{
		// E07: a policy rule for each attachment, for ever.
		"leaks-rule": {add: addRule},
		// D13: a file for each attachment, for ever.
		"leaks-file": {add: func(c *call) error { return write(c.ContainerID) }},
		// No fault: the same file for all attachments, which is residue of the first use.
		"keeps-lock": {add: func(*call) error { return write("lock") }},
		// DEL-1: a process for each attachment.
		"leaves-process": {add: linger},
		// C07: the uplink is smaller than it was.
		"shrinks-uplink": {add: shrink},
		// A07: the node has no default route any more.
		"removes-default": {add: removeDefault},
		// G01: text on stdout beside the result.
		"prints-text": {add: func(*call) error { _, err := fmt.Println("attached"); return err }},
		// G03: a result of its own in place of the one it got.
		"own-result": {add: forgetInterfaces},
		// ADD Success: an address in the result that no interface has.
		"wrong-address": {add: shiftAddresses},
		// E10: DEL takes away what all pods share.
		"removes-shared": {del: func(c *call) error { return deleteLink(c.Child) }},
		// D04: DEL removes the route to its address, whoever has that by now.
		"by-address": {del: removeRoutes},
		// H03: a device named after the first characters of the container id.
		"short-id": {
			add: func(c *call) error { return makeBridge(shortName(c)) },
			del: func(c *call) error { return deleteLink(shortName(c)) },
		},
		// A12: each ADD takes the node's uplink down and up.
		"flaps": {add: flap},
		// H01: looks for a shared device, and makes it when others have had the time to do the same.
		"races": {add: race},
		// "Lease" in scenarios: nobody is left to renew what the pod leased.
		"ends-leases": {add: killDHCP},
		// RES-1: another address than the one that was asked for, in the pod and in the result.
		"moves-address": {add: moveAddress},
		// C01: gives the pod another MAC and tells nobody.
		"silent": {add: changeMAC},
		// I01: a connection stalls after some megabytes.
		"stalls": {add: limit},
		// A03: pings get through, connections do not.
		"drops-tcp": {add: dropping(arriving, tcp()...)},
		// I01: what is small gets through.
		"drops-large": {add: dropping(arriving, large()...)},
		// A09: the node keeps the pod at a MAC that it never had.
		"wrong-neighbour": {add: pinWrongMAC},
		// A09: the pod does not answer who asks for its MAC.
		"ignores-arp": {add: ignoreARP},
		// A01: the node sends to the pod by another device.
		"wrong-route": {add: routeElsewhere},
		// I03: the same, where the node looks for a pod's packets on the way back to it.
		"strict-way-back": {add: func(c *call) error { return errors.Join(routeElsewhere(c), filterStrictly(c)) }},
		// A01: the node throws away what is for the pod, by a route and by a rule.
		"blackhole-route":  {add: blackhole},
		"unreachable-rule": {add: refuseByRule},
		// I04: the node's firewall drops what it would forward to the pod.
		"drops-forwarded": {add: dropForwarded},
		// A01: the pod reaches others, nobody reaches the pod; and the other way round.
		"drops-incoming": {add: dropping(arriving, newConnection()...)},
		"drops-outgoing": {add: dropping(leaving, newConnection()...)},
		// I08: one family only.
		"drops-ipv6": {add: dropping(arriving6)},
		// E10: the last pod is the only one that the node reaches.
		"breaks-others": {add: removeOtherRoutes},
		// I03: a setting of the node that is one higher with each attachment.
		"raises-sysctl": {add: raiseSetting},
		// "untranslated" in scenarios: the node hides its pods behind itself.
		"masquerades": {add: masquerade},
		// G05: CHECK insists on what a later plugin may change, as that of the delegate does.
		"strict-check": {},
		// A08: pins the pod's MAC as it was at the head of the chain, where this plugin stands too, with a delegate.
		"first-mac": {add: pinFirstMAC},
		// B03, B04: whatever the proxy wants to hide behind the node keeps its own address.
		"keeps-clients": {add: keepClients},
		// B09: what the node sends on for others gets the address of its first NIC, wherever it leaves.
		"first-nic": {add: translateToFirstNIC},
		// B06: a proxy of its own in the pod, to the endpoint that a service had once.
		"own-proxy": {add: proxy},
		// B07: the pod's service interface has no address.
		"no-address": {add: removeAddresses},
		// A11: replies leave by another interface than their connection came in by.
		"forgets-way-in": {add: forgetWayIn},
		// I03: strict reverse path filters look up the way back without the mark that decides it.
		"unmarked-way-back": {add: ignoreMarks},
		// H04: more pods than routing tables.
		"few-tables": {add: shareTable},
		// K03: the router gets a copy of what goes to the node.
		"mirrors": {add: mirror},
		// host-to-pod: datagrams alone do not arrive.
		"drops-udp": {add: dropping(arriving, udp()...)},
		// large-datagrams: what does not fit into one packet does not arrive.
		"drops-fragments": {add: dropping(earliest, fragments()...)},
		// pod-churn: one packet in twenty is lost.
		"loses": {add: dropping(arriving, oneIn(20)...)},
		// TestLoad: one packet in two hundred.
		"loses-rarely": {add: dropping(arriving, oneIn(200)...)},
		// underlay-groups: what is sent to all on the LAN, or to a group, does not arrive.
		"drops-groups": {add: dropping(arriving, groupTraffic()...)},
		// external-to-pod: what the pod sends dies at the router.
		"lowers-ttl": {add: lowerTTL},
		// B07, G03: what the plugins before it made in the pod and the result still lists.
		"removes-pod-default": {add: removePodDefault},
		"removes-pod-link":    {add: func(c *call) error { return inPod(c, netlink.LinkDel) }},
		// No fault: nobody can have what it asks for of a kernel without CONFIG_NFT_QUEUE.
		"needs-queue": {check: queue},
		// CHK-6, DEL-4: the kernel refuses what it asks for.
		"refused-check": {check: removeNothing},
		"refused-del":   {del: removeNothing},
		// "several-networks" in scenarios: a second interface takes the pod's first one down.
		"takes-first-down": {add: lowerFirst},
		// No fault: devices come back as they were, which host-device alone does not care for.
		"returns-devices": {before: recordDevice, del: returnDevice},
		// DEL-1: the device has another MTU in the pod, and keeps it.
		"keeps-mtu": {before: recordDevice, add: shrinkInPod, del: returnDevice},
		// GC-6: GC deletes the devices of other networks.
		"collects-all": {gc: deleteVeths},
		// I04: FORWARD is the plugin's alone, whoever has written there.
		"empties-forward": {add: emptyForward},
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == lingering {
		time.Sleep(time.Minute) // the node that it stands on ends long before
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
