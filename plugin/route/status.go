package main

import (
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// cmdStatus answers with code 50 and the reason when ADD cannot succeed, and with 51 when attached pods are cut off,
// too. A missing child is no reason: the next ADD makes it.
func cmdStatus(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	host, err := kernel.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	c, err := conf.child(host)
	if err != nil {
		return chain.NotAvailable("%w", err)
	}
	if !kernel.IsUp(c.master) {
		return chain.Disconnected("master %q is down: bring it up (ip link set %[1]s up)", c.master.Attrs().Name)
	}
	if _, err := c.find(host); err != nil {
		return chain.NotAvailable("%w", err)
	}
	return verb.Recordable(pluginName, conf.Name)
}
