package main

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// podMarkMask covers the marks in the pod's namespace: the top eight bits, since service meshes in pods use low ones
// (istio 0x539).
const podMarkMask = 0xff000000

// podMarks returns the marks of connections that arrived over the veth and over the underlay link.
func podMarks(slot int) (veth, link uint32) {
	return uint32(2*slot+1) << 24, uint32(2*slot+2) << 24
}

// maxSlots is limited by the number of marks.
const maxSlots = 127

// newPodTable returns the plugin's table in the pod. Each attachment has its own.
func newPodTable(ifName string, a attachment) *table {
	t := newTable(nodeTableName + "-" + ifName)
	vethMark, linkMark := podMarks(a.Pod.Slot)

	// A reply leaves by the link on which its connection arrived: the client of a node port on another network must get
	// its answer from the node, which translates it back, and the client of the pod's own address must not.
	pre := t.chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityMangle)
	t.rule(pre, iifname(a.Veth.Pod), newConnection(), setConnMark(vethMark, podMarkMask))
	t.rule(pre, iifname(a.Link), newConnection(), setConnMark(linkMark, podMarkMask))
	out := t.chain("output", nftables.ChainTypeRoute, nftables.ChainHookOutput, *nftables.ChainPriorityMangle)
	for _, mark := range []uint32{vethMark, linkMark} {
		t.rule(out, direction(directionReply), marked(mark, podMarkMask), setMark(mark, podMarkMask))
	}

	// The pod forwards packets that the node sends back into it. The rest of its LAN cannot reach the node through it.
	forward := t.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
	t.rule(forward, iifname(a.Link), oifname(a.Veth.Pod), direction(directionOriginal), verdict(expr.VerdictDrop))

	// Packets that the node sends back have the node's address as source. They leave with the pod's own, so that the
	// receiver sees the pod and answers to the underlay link.
	post := t.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting,
		*nftables.ChainPriorityNATSource)
	t.rule(post, iifname(a.Veth.Pod), oifname(a.Link), []expr.Any{&expr.Masq{}})
	return t
}
