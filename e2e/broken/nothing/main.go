// Command nothing is BROKEN ON PURPOSE: a plugin on the reference library for plugins in Go that does nothing at all.
// What results say of it is what the library does by itself; it also stands in for an IPAM plugin that somebody forgot
// to call.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{}, version.All, "nothing, broken on purpose")
}
