// Command routed-eni is a CNI plugin that gives a pod an address of the cloud's own network. It asks the daemon ipamd
// of its node for the address, connects the pod to the node with a veth, and routes packets to the pod by a host route
// and packets from it over the network interface (ENI) that has the address. It is the first plugin of its chain and
// makes CNI_IFNAME.
//
// It is not an IPAM plugin and does not call one: ipamd manages the addresses, the ENIs, their routing tables and the
// translation of packets that leave the cloud's network.
//
// Tests: go test ./plugin/routed-eni (as root; they run in namespaces of their own)
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
	}, version.All, "CNI plugin routed-eni of cnitest")
}
