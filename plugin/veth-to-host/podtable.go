package main

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Marks in the pod's namespace. Eight bits at the top, since meshes that live in pods take low ones (istio 0x539).
const podMarkMask = 0xff000000

// podMarks returns the marks of connections that came over the veth and over the underlay link.
func podMarks(slot int) (veth, link uint32) {
	return uint32(2*slot+1) << 24, uint32(2*slot+2) << 24
}

// Slots end where their marks do.
const maxSlots = 127

// newPodTable returns the plugin's table in the pod, one for each attachment.
func newPodTable(ifName string, a attachment) *table {
	t := newTable(nodeTableName + "-" + ifName)
	vethMark, linkMark := podMarks(a.Pod.Slot)

	// A reply leaves by the link that its connection came in on: the client of a node port on another network has to be
	// answered by the node, which translates back, and the client of the pod's own address must not be.
	pre := t.chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityMangle)
	t.rule(pre, iifname(a.Veth.Pod), newConnection(), setConnMark(vethMark, podMarkMask))
	t.rule(pre, iifname(a.Link), newConnection(), setConnMark(linkMark, podMarkMask))
	out := t.chain("output", nftables.ChainTypeRoute, nftables.ChainHookOutput, *nftables.ChainPriorityMangle)
	for _, mark := range []uint32{vethMark, linkMark} {
		t.rule(out, direction(directionReply), marked(mark, podMarkMask), setMark(mark, podMarkMask))
	}

	// The pod forwards what the node sends back into it, and is no way to the node for the rest of its LAN.
	forward := t.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
	t.rule(forward, iifname(a.Link), oifname(a.Veth.Pod), direction(directionOriginal), verdict(expr.VerdictDrop))

	// What the node sends back has the node's address. It leaves with the pod's own: whoever is asked sees who asks,
	// and answers to the underlay link.
	post := t.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting,
		*nftables.ChainPriorityNATSource)
	t.rule(post, iifname(a.Veth.Pod), oifname(a.Link), []expr.Any{&expr.Masq{}})
	return t
}
