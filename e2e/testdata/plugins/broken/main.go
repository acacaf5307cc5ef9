// Command broken is BROKEN ON PURPOSE: a negative control that `make test` runs scenarios against, never to be installed.
//
// It is a chained plugin that passes the result on and has the one fault that the key `fault` of its configuration names; see
// faults for what each is and which failure mode it shows (cnitest explain ID). With the key `delegate` it stands at the head
// of the chain and hands everything to that plugin first.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

type config struct {
	types.PluginConf
	Fault    string `json:"fault"`
	Delegate string `json:"delegate"`
	Master   string `json:"master"`
	// Child is the node's device that the pods share.
	Child string `json:"child"`
}

// call is an ADD or a DEL; result is nil on a DEL without one.
type call struct {
	*skel.CmdArgs
	config
	result *current.Result
}

// fault is what goes wrong in ADD and in DEL; nil does nothing.
type fault struct{ add, del func(*call) error }

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
		"short-id": {add: func(c *call) error { return makeBridge(shortName(c)) }, del: func(c *call) error { return deleteLink(shortName(c)) }},
		// A12: each ADD takes the node's uplink down and up.
		"flaps": {add: flap},
		// H01: looks for a shared device, and makes it when others have had the time to do the same.
		"races": {add: race},
		// C01: gives the pod another MAC and tells nobody.
		"silent": {add: changeMAC},
		// I01: a connection stalls after some megabytes.
		"stalls": {add: limit},
		// "untranslated" in scenarios: the node hides its pods behind itself.
		"masquerades": {add: masquerade},
		// G05: CHECK insists on what a later plugin may change, as that of the delegate does.
		"strict-check": {},
		// A08: pins the pod's MAC as it was at the head of the chain, where this plugin stands too, with a delegate.
		"first-mac": {add: pinFirstMAC},
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == lingering {
		time.Sleep(time.Minute) // the node that it stands on ends long before
		return
	}
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check}, version.All, "broken on purpose")
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

func check(args *skel.CmdArgs) error {
	c, _, err := parse(args)
	if err != nil || c.Delegate == "" {
		return err
	}
	return invoke.DelegateCheck(context.Background(), c.Delegate, args.StdinData, nil)
}
