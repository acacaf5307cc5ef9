// Command veth-to-host is a chained CNI plugin that gives a pod on an underlay a second path: a veth to its own node.
// Packets to the node and its services take it, and so do packets of node ports that lead to the pod; they pass the
// node's netfilter. Packets to the pod's own subnet stay on the underlay. In a conflist it follows macvlan or ipvlan.
//
// It is not a service proxy: kube-proxy, or a program in its place, implements service addresses.
//
// Tests: go test ./plugin/veth-to-host (as root; they run in namespaces of their own)
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
	}, version.All, "CNI plugin veth-to-host of cnitest")
}
