// Command nothing is BROKEN ON PURPOSE: a plugin on the reference library for plugins in Go that does nothing at all.
// Results about it show what the library does by itself. It also takes the place of an IPAM plugin that somebody forgot
// to call.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{}, version.All, "nothing, broken on purpose")
}
