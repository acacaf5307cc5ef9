package main

import (
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

func cmdAdd(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	call, err := verb.Open(&conf.Config, args)
	if err != nil {
		return err
	}
	defer call.Close()
	add := &addition{Call: call, conf: conf, args: args}
	if err := add.look(); err != nil {
		return err
	}
	a, err := add.run()
	if err != nil {
		return err
	}
	return types.PrintResult(add.result(a), conf.Version())
}

// addition is the state of one ADD.
type addition struct {
	*verb.Call
	conf *config
	args *skel.CmdArgs

	node      *node
	link      netlink.Link // the underlay link in the pod
	addresses []netip.Addr
	podAddrs  []netip.Addr // all that the pod has on its links, before this attachment
}

// look reads everything that does not depend on other attachments.
func (a *addition) look() error {
	var err error
	if a.link, err = a.Pod.LinkByName(a.args.IfName); kernel.IsNotFound(err) {
		return chain.BadConfig("link %s is not in the pod: list a plugin that makes it before %s", a.args.IfName,
			pluginName)
	}
	if err != nil {
		return fmt.Errorf("link %s of the pod: %w", a.args.IfName, err)
	}
	if a.addresses = addressesOf(a.Prev, a.args.IfName); len(a.addresses) == 0 {
		return chain.BadConfig("prevResult has no address on %s: give the plugin that makes the link an ipam",
			a.args.IfName)
	}
	if a.conf.ContainerInterface == a.args.IfName {
		return chain.BadConfig("containerInterface %q is the underlay link itself: leave containerInterface out or "+
			"name a free link", a.args.IfName)
	}
	name, err := a.hostInterfaceName()
	if err != nil {
		return chain.BadConfig("%w", err)
	}
	if err := a.readPodAddresses(); err != nil {
		return err
	}
	if a.node, err = readNode(a.Host, name, familiesOf(slices.Concat(a.addresses, a.podAddrs))...); err != nil {
		return chain.BadConfig("%w", err)
	}
	if err := a.node.ready(familiesOf(a.addresses)...); err != nil {
		return chain.NotAvailable("%w", err)
	}
	for _, ip := range a.addresses {
		if a.node.has(ip) {
			return chain.BadConfig("address %s of the pod is an address of the node: take it out of the ranges of ipam",
				ip)
		}
	}
	return a.refuseRoute()
}

func (a *addition) readPodAddresses() error {
	listed, err := a.Pod.Addresses(false, true)
	if err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	a.podAddrs = nil
	for _, addr := range listed {
		a.podAddrs = append(a.podAddrs, addr.Prefix.Addr())
	}
	return nil
}

// hostInterfaceName returns the configured name. Without one it returns the parent of the pod's macvlan or ipvlan,
// which is the master that the previous plugin chose, and for other links the device of the node's default route.
func (a *addition) hostInterfaceName() (string, error) {
	if a.conf.HostInterface == "" && a.link.Attrs().ParentIndex != 0 && slices.Contains([]string{"macvlan", "ipvlan"},
		a.link.Type()) {
		below, err := a.Host.LinkByIndex(a.link.Attrs().ParentIndex)
		if err == nil {
			on, err := a.Pod.IsParent(a.link, below.Attrs().Index, a.Host)
			if err != nil {
				return "", err
			}
			if on {
				return below.Attrs().Name, nil
			}
		}
	}
	return a.conf.hostInterfaceName(a.Host)
}

// refuseRoute returns an error if the plugin route is in the chain: it gives the node a second route to the same
// address, and one of the two would never be used. Its record shows that it ran, as does a macvlan on the node in
// prevResult.
func (a *addition) refuseRoute() error {
	both := chain.BadConfig("route stands before %s in the chain: remove route, %[1]s does all that it does",
		pluginName)
	own := a.conf.Attachment(a.args)
	if _, err := os.Stat(filepath.Join(record.DefaultRoot, "route", own.Network, own.ContainerID,
		own.IfName)); err == nil {
		return both
	}
	for _, listed := range a.Prev.Interfaces {
		if listed.Sandbox != "" {
			continue
		}
		link, err := a.Host.LinkByName(listed.Name)
		if err == nil && link.Type() == "macvlan" && link.Attrs().ParentIndex == a.node.link.Attrs().Index {
			return both
		}
	}
	return nil
}

// run makes the attachment. After an error it undoes its changes.
func (a *addition) run() (state attachment, err error) {
	s, err := openStore(true)
	if err != nil {
		return state, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	e := entry{Attachment: a.conf.Attachment(a.args), Created: time.Now().UTC()}
	old, err := s.Load(e.Attachment)
	if err := record.UnlessCorrupt(err); err != nil {
		return state, err
	}
	// If a runtime repeats an ADD without a DEL in between, remove the old state first. The addresses of the old veth
	// go with it, and the pod may have others now.
	if old != nil {
		if err := errors.Join(detach(a.Host, s, *old), a.readPodAddresses()); err != nil {
			return state, err
		}
	}
	if e.State, err = a.plan(s, e.Attachment); err != nil {
		return state, err
	}
	if e.Sequence, err = a.sequence(s); err != nil {
		return state, err
	}
	if err := s.Save(e); err != nil {
		return state, err
	}
	if err := a.connect(s, e); err != nil {
		if undone := detach(a.Host, s, e); undone != nil {
			return state, errors.Join(err, fmt.Errorf("undo: %w", undone)) // the record stays, for DEL
		}
		return state, errors.Join(err, s.Remove(e.Attachment))
	}
	return e.State, nil
}

// sequence returns a number above that of each record that holds one of the addresses.
func (a *addition) sequence(s *store) (uint64, error) {
	var all []entry
	for _, ip := range a.addresses {
		holders, err := s.Holders(addressKey(ip))
		if err != nil {
			return 0, err
		}
		all = append(all, holders...)
	}
	return record.NextSequence(all...), nil
}

// plan returns the record of the future attachment. It changes nothing, except that it removes a veth whose record was
// lost if the veth has a name that it needs.
func (a *addition) plan(s *store, of record.Attachment) (attachment, error) {
	state := attachment{
		Netns: a.args.Netns, HostInterface: a.node.name(), Link: a.args.IfName,
		LinkMAC:   a.link.Attrs().HardwareAddr.String(),
		Addresses: a.addresses, Mark: a.conf.mark(), Ports: a.conf.ports, Masquerade: a.conf.masquerades(),
	}
	other, err := otherMark(s, state.Mark, of)
	if err != nil {
		return state, err
	}
	if other != nil {
		return state, chain.BadConfig("nodePortMark is %#x, and attachment %s has %#x: set the same for all "+
			"networks, or delete the pods of the other first",
			state.Mark, other.Attachment, other.State.Mark)
	}
	for _, ipv6 := range state.families() {
		state.Node = append(state.Node, a.node.source(firstOf(a.addresses, ipv6)))
	}
	if state.Sources, err = a.sources(s, of); err != nil {
		return state, err
	}
	state.Raw = true
	inPod, err := others(s, netnsKey(a.args.Netns), of)
	if err != nil {
		return state, err
	}
	if state.Veth, err = a.planVeth(inPod, of); err != nil {
		return state, err
	}
	if state.Table, err = a.freeTable(s, of); err != nil {
		return state, err
	}
	return state, planPod(a.Pod, a.node, inPod, &state, a.conf.routes)
}

// otherMark returns the record of an attachment with another mark, or nil if there is none.
func otherMark(s *store, mark uint32, of record.Attachment) (*entry, error) {
	values, err := s.Values(markKind)
	if err != nil {
		return nil, err
	}
	for _, value := range values {
		key := markKind + "/" + value
		if key == markKey(mark, false) || key == markKey(mark, true) {
			continue
		}
		if other, err := s.Other(key, of); other != nil || err != nil {
			return other, err
		}
	}
	return nil, nil
}

// planVeth chooses free names. inPod contains the records of the pod's other attachments.
func (a *addition) planVeth(inPod []entry, of record.Attachment) (kernel.Veth, error) {
	v := kernel.Veth{MTU: a.conf.MTU}
	if v.MTU == 0 {
		v.MTU = a.node.link.Attrs().MTU
	}
	var err error
	if v.Pod, err = a.podName(inPod); err != nil {
		return v, err
	}
	for attempt := range maxAttempts {
		id := identity{of, attempt}
		v.Host, v.HostMAC, v.PodMAC = id.name(), id.mac("host").String(), id.mac("pod").String()
		if free, err := freeName(a.Host, v); free || err != nil {
			return v, err
		}
		log.Printf("link %s is taken by something else, trying another name", v.Host)
	}
	return v, fmt.Errorf("link %s and %d other names for the node's end of the veth are taken", v.Host, maxAttempts-1)
}

// podName returns the name of the pod's end: the configured one, or if another attachment of the pod has that, the next
// free one.
func (a *addition) podName(inPod []entry) (string, error) {
	name := a.conf.ContainerInterface
	for number := 1; ; number++ {
		_, err := a.Pod.LinkByName(name)
		if kernel.IsNotFound(err) {
			return name, nil
		}
		if err != nil {
			return "", fmt.Errorf("link %s of the pod: %w", name, err)
		}
		ours := slices.ContainsFunc(inPod, func(e entry) bool {
			return e.ContainerID == a.args.ContainerID && e.State.Netns == a.args.Netns && e.State.Veth.Pod == name
		})
		if !ours {
			return "", chain.BadConfig("link %s exists in the pod and is not this plugin's: set containerInterface "+
				"to a free name", name)
		}
		name = strings.TrimRight(a.conf.ContainerInterface, "0123456789") + fmt.Sprint(number)
	}
}

// connect makes everything that the record names, and restores what other attachments have lost.
func (a *addition) connect(s *store, e entry) error {
	if err := a.Host.AddVeth(a.Pod, e.State.Veth); err != nil {
		return err
	}
	if err := connectPod(a.Pod, e.IfName, e.State); err != nil {
		return err
	}
	h := &hostSide{host: a.Host}
	if err := h.clear(e); err != nil {
		return err
	}
	if err := h.ensureShared(e.State); err != nil {
		return err
	}
	if err := h.ensureAnew(e); err != nil {
		return err
	}
	if err := restoreLost(a.Host, s, e); err != nil {
		return err
	}
	if err := ensureInNodeTable(s, e); err != nil {
		return err
	}
	return awaitLocal(a.Pod, e.State)
}

// result returns prevResult with both ends of the veth as its last interfaces, and with the routes over the veth. A
// route that now leads over the veth, such as the default route, has its new next hop. At CHECK, upstream's macvlan
// looks for each route of the result in the pod's main table, where these routes are, and for each address on
// CNI_IFNAME, so the result gets no address.
func (a *addition) result(state attachment) *current.Result {
	result := *a.Prev
	mtu := 0
	if a.conf.Version() == current.ImplementedSpecVersion { // 1.0.0 has neither mtu nor a route's priority
		mtu = state.Veth.MTU
	}
	result.Interfaces = append(slices.Clone(result.Interfaces),
		&current.Interface{Name: state.Veth.Host, Mac: state.Veth.HostMAC, Mtu: mtu},
		&current.Interface{Name: state.Veth.Pod, Mac: state.Veth.PodMAC, Mtu: mtu, Sandbox: a.args.Netns})
	result.Routes = nil
	isReplaced := func(r *types.Route) bool {
		dst, ok := netipx.FromStdIPNet(&r.Dst)
		return ok && slices.ContainsFunc(state.Pod.Replaced, func(gone route) bool { return gone.Dst == dst })
	}
	for _, r := range a.Prev.Routes {
		if !isReplaced(r) {
			result.Routes = append(result.Routes, r)
		}
	}
	for _, r := range state.Pod.Routes {
		if r.Table != 0 {
			continue
		}
		out := &types.Route{Dst: *netipx.PrefixIPNet(r.Dst)}
		if r.Via.IsValid() {
			out.GW = r.Via.AsSlice()
		}
		if a.conf.Version() == current.ImplementedSpecVersion {
			out.Priority = r.Metric
		}
		result.Routes = append(result.Routes, out)
	}
	return &result
}

// addressesOf returns the addresses that prevResult gives to the link ifName of the pod, each once. Results before
// 0.3.0 name no link; their addresses belong to the link that CNI_IFNAME names. Link-local addresses are left out: they
// cannot be reached over a veth.
func addressesOf(prev *current.Result, ifName string) []netip.Addr {
	var addrs []netip.Addr
	for _, ip := range prev.IPs {
		if i := ip.Interface; i != nil && (prev.Interfaces[*i].Sandbox == "" || prev.Interfaces[*i].Name != ifName) {
			continue
		}
		addr := addrOf(ip.Address.IP)
		if addr.IsValid() && !addr.IsLinkLocalUnicast() && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func familiesOf(addrs []netip.Addr) []bool {
	return attachment{Addresses: addrs}.families()
}
