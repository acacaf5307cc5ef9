// Command route is a chained CNI plugin that lets a node and its macvlan pods reach each other. The kernel keeps a
// device and the macvlans on it apart; route gives the node a macvlan of its own (the child) and one host route over it
// per pod address. It goes after macvlan in a conflist.
//
// It is not a way for pods to reach services or other networks: it changes nothing but the path between a node and its
// own pods.
//
// Tests: go test ./plugin/route (as root; they run in namespaces of their own)
package main

import (
	"runtime"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

// A namespace belongs to a thread: whatever reads /proc/sys or the own namespace has to stay on the first one.
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
