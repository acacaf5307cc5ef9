package main

import (
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// cmdStatus answers with code 50 and the reason when ADD cannot succeed.
func cmdStatus(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	if err := verb.Recordable(pluginName, conf.Name); err != nil {
		return err
	}
	d, err := dial(conf.Socket)
	if err != nil {
		return err
	}
	defer d.close()
	return d.ready()
}
