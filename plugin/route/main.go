// Command route is a chained CNI plugin that lets a node and its macvlan pods reach each other. The kernel does not
// forward between a device and the macvlans on it; route gives the node a macvlan of its own (the child) and one host
// route over it per pod address. It goes after macvlan in a conflist.
//
// It does not connect pods to services or other networks: it changes only the path between a node and its own pods.
//
// Tests: go test ./plugin/route (as root; they run in namespaces of their own)
package main

import (
	"runtime"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

// A namespace belongs to a thread: code that opens the current one, or its settings, has to stay on the first thread.
func init() {
	runtime.LockOSThread()
}

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    cmdAdd,
		Check:  cmdCheck,
		Del:    cmdDel,
		GC:     cmdGC,
		Status: cmdStatus,
	}, version.All, "CNI plugin route of cnitest")
}
