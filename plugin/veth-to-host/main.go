// Command veth-to-host is a chained CNI plugin that gives an underlay pod a second way: a veth to its own node. Over it
// go the node itself, its services, and the node ports that end in the pod, through the node's netfilter; what the pod
// says to its own subnet stays on the underlay. It goes after macvlan or ipvlan in a conflist.
//
// It is not a service proxy: what a service address means is decided by kube-proxy, or whatever does its work.
//
// Tests: go test ./plugin/veth-to-host (as root; they run in namespaces of their own)
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
	}, version.All, "CNI plugin veth-to-host of cnitest")
}
