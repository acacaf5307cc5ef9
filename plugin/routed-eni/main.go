// Command routed-eni is a CNI plugin that gives a pod an address of the cloud's own network. It asks the daemon ipamd
// of its node for the address, connects the pod to the node with a veth, and leads packets to it by a host route and
// those from it by the network interface (ENI) that has the address. It is the first of its chain and makes CNI_IFNAME.
//
// It is no IPAM plugin and takes none: which addresses there are is ipamd's business, and so are ENIs, their routing
// tables and the translation of what leaves the cloud's network.
//
// Tests: go test ./plugin/routed-eni (as root; they run in namespaces of their own)
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
	}, version.All, "CNI plugin routed-eni of cnitest")
}
