package main

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// guard is the part of the node's table that drops what a pod must not send to its node: the veth is a way to the node
// that the pod has not on the underlay. The kernel's reverse path filter does not do this. It may be off or loose, IPv6
// has none, and rule 1024 makes it accept any source that goes back into the pod.
type guard struct {
	guarded, own4, own6 *nftables.Set
}

const (
	guardRaw     = "guard-raw"
	guardChain   = "guard"
	guardReplies = "guard-replies"
)

// guardedEntries returns the attachments whose records say what the pod may send. Those of versions before have no
// sources: nothing is dropped of what their pods send until they are made anew.
func guardedEntries(entries []entry) []entry {
	return slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return len(e.State.Sources) == 0 })
}

// addGuard adds the sets and the chains. The first drops, before connection tracking sees it, all that can be told from
// a packet alone: later it would have counted as one of another pod's connection, and could have ended that. What is
// left of foreign sources are those of other machines, in packets to the node.
//
// Before destinations are translated the second drops those, too, except for replies: a connection of the pod that the
// node sent back into it comes out of it again as one of the node, and is answered from elsewhere. Once the translation
// of such a reply is undone, its destination is who sent the first packet: it must be the pod. `ct original saddr` is
// the same and known earlier, but nftables 1.0.6 (Debian 12) cannot list a table that looks it up in a set.
//
// A version before compares only chains that it knows: a new rule in a chain of its own leaves its CHECK as it is.
func (t *nodeTable) addGuard() {
	link := nftables.TypeIFName
	t.guarded = t.set(&nftables.Set{Name: "guarded", KeyType: link, KeyByteOrder: binaryutil.NativeEndian})
	t.own4 = t.set(&nftables.Set{
		Name: "own4", KeyType: nftables.MustConcatSetType(link, nftables.TypeIPAddr), Concatenation: true,
	})
	t.own6 = t.set(&nftables.Set{
		Name: "own6", KeyType: nftables.MustConcatSetType(link, nftables.TypeIP6Addr), Concatenation: true,
	})
	fromGuarded := concat(loadMeta(expr.MetaKeyIIFNAME, register1), inSet(t.guarded))
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	raw := t.chain(guardRaw, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	early := t.chain(guardChain, nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
		*nftables.ChainPriorityConntrack+1)
	late := t.chain(guardReplies, nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
		*nftables.ChainPriorityNATDest+1)
	// kube-proxy lets packets to the loopback in from every link (route_localnet), whatever their source.
	t.rule(early, fromGuarded, family(false), destinationAddress(false, register1), prefixOf(loopback()), drop)
	for _, own := range []struct {
		set  *nftables.Set
		ipv6 bool
	}{{t.own4, false}, {t.own6, true}} {
		link := loadMeta(expr.MetaKeyIIFNAME, register1)
		from := concat(link, sourceAddress(own.ipv6, registerAfterName))
		to := concat(link, destinationAddress(own.ipv6, registerAfterName))
		t.rule(raw, family(own.ipv6), from, inSet(own.set), accept)
		t.rule(early, family(own.ipv6), from, inSet(own.set), accept)
		t.rule(late, family(own.ipv6), fromGuarded, from, notInSet(own.set), to, notInSet(own.set), drop)
	}
	t.rule(raw, fromGuarded, localSource(), drop)
	t.rule(raw, fromGuarded, linkOfSource(), inSet(t.links), drop)
	t.rule(raw, fromGuarded, otherThanLocalDestination(), drop)
	t.rule(early, direction(directionReply), accept)
	t.rule(early, fromGuarded, drop)
}

// addSources adds the elements of attachments: each link of a pod may carry the addresses of all its attachments.
func (t *nodeTable) addSources(entries []entry) {
	pods := map[string][]entry{}
	for _, e := range entries {
		pods[e.ContainerID+" "+e.State.Netns] = append(pods[e.ContainerID+" "+e.State.Netns], e)
	}
	for _, inPod := range pods {
		for _, e := range inPod {
			link := linkName(e.State.Veth.Host)
			t.element(t.guarded, nftables.SetElement{Key: link})
			for _, other := range inPod {
				for _, ip := range other.State.Sources {
					t.element(pick(ip.Is6(), t.own6, t.own4), nftables.SetElement{
						Key: slices.Concat(link, ip.AsSlice()),
					})
				}
			}
		}
	}
}

func loopback() netip.Prefix { return netip.MustParsePrefix("127.0.0.0/8") }

// sources returns the addresses that a pod may send with: those of its attachments, and those that it has on other
// networks, since it answers the node with them over the veth. An address of the node or of another pod is not among
// them: a pod could have taken it before it got a further network.
func (a *addition) sources(s *store, of record.Attachment) ([]netip.Addr, error) {
	all := slices.Clone(a.addresses)
	for _, ip := range a.podAddrs {
		if slices.Contains(all, ip) || a.node.has(ip) {
			continue
		}
		foreign, err := s.Holders(addressKey(ip))
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(foreign, func(e entry) bool { return e.ContainerID != of.ContainerID }) {
			all = append(all, ip)
		}
	}
	return all, nil
}

// quiet returns the settings that keep a pod from filling the node's neighbour table, which is one for all links:
// nobody has to ask on the veth (arp_ignore, ip-sysctl.rst: 8 answers for no address, and learns nothing).
func quiet() kernel.Sysctl { return kernel.Sysctl{Family: "ipv4", Key: "arp_ignore", Value: "8"} }
