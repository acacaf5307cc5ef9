package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"go4.org/netipx"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// podArgs are the arguments by which a runtime names the pod, for people who read ipamd's state.
type podArgs struct {
	types.CommonArgs
	K8S_POD_NAME, K8S_POD_NAMESPACE         types.UnmarshallableString //nolint:revive,staticcheck // names of CNI_ARGS
	K8S_POD_INFRA_CONTAINER_ID, K8S_POD_UID types.UnmarshallableString //nolint:revive,staticcheck // names of CNI_ARGS
}

func cmdAdd(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	host, err := kernel.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	pod, err := verb.OpenPod(host, args.Netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	add := &addition{host: host, pod: pod, conf: conf, args: args}
	if err := add.look(); err != nil {
		return err
	}
	d, err := dial(conf.Socket)
	if err != nil {
		return err
	}
	defer d.close()
	// The lock is not held meanwhile: a daemon that hangs would keep the DELs of all pods waiting.
	reply, err := d.assign(add.request())
	if err != nil {
		return err
	}
	e, err := add.attach(reply)
	if err != nil {
		if _, undone := d.release(conf.Attachment(args), add.who); undone != nil {
			log.Printf("the address stays assigned until DEL or GC: %v", undone)
		}
		return err
	}
	return types.PrintResult(add.result(e), conf.Version())
}

// addition is one ADD.
type addition struct {
	host, pod *kernel.Namespace
	conf      *config
	args      *skel.CmdArgs
	who       podArgs
}

// look returns the errors that can be found before anything is requested or changed.
func (a *addition) look() error {
	if err := types.LoadArgs(a.args.Args, &a.who); err != nil {
		return chain.BadEnvironment("CNI_ARGS: %w", err)
	}
	if err := a.conf.Attachment(a.args).Validate(); err != nil {
		return chain.BadEnvironment("CNI_CONTAINERID, CNI_IFNAME or the network's name: %w", err)
	}
	_, err := a.pod.LinkByName(a.args.IfName)
	if err == nil {
		return chain.BadEnvironment("CNI_IFNAME: link %q is in the pod already", a.args.IfName)
	}
	if !kernel.IsNotFound(err) {
		return fmt.Errorf("link %s of the pod: %w", a.args.IfName, err)
	}
	return nil
}

func (a *addition) request() *rpc.AddNetworkRequest {
	return &rpc.AddNetworkRequest{
		K8S_POD_NAME: string(a.who.K8S_POD_NAME), K8S_POD_NAMESPACE: string(a.who.K8S_POD_NAMESPACE),
		K8S_POD_INFRA_CONTAINER_ID: string(a.who.K8S_POD_INFRA_CONTAINER_ID),
		Netns:                      a.args.Netns, IfName: a.args.IfName, NetworkName: a.conf.Name,
		ContainerID: a.args.ContainerID,
	}
}

// attach connects the pod with the address that ipamd has given to it.
func (a *addition) attach(reply *rpc.AddNetworkReply) (entry, error) {
	e := entry{Attachment: a.conf.Attachment(a.args), Created: time.Now().UTC()}
	given, err := readReply(reply)
	if err != nil {
		return e, fmt.Errorf("ipamd at %s: %w", a.conf.Socket, err)
	}
	s, err := openStore(true)
	if err != nil {
		return e, err
	}
	e, err = a.run(s, e, given)
	return e, errors.Join(err, s.Close())
}

// run records the attachment and then makes it. After an error it undoes its changes.
func (a *addition) run(s *store, e entry, given allocation) (entry, error) {
	old, err := s.Load(e.Attachment)
	if err := record.UnlessCorrupt(err); err != nil {
		return e, err
	}
	// If a runtime repeats an ADD in a new namespace without a DEL in between, remove the old state first.
	if old != nil {
		if err := detach(a.host, s, *old); err != nil {
			return e, err
		}
	}
	holders, err := s.Holders(addressKey(given.Address))
	if err != nil {
		return e, err
	}
	e.Sequence = record.NextSequence(holders...)
	if e.State, err = a.plan(e, given); err != nil {
		return e, err
	}
	if err := s.Save(e); err != nil {
		return e, errors.Join(err, s.Remove(e.Attachment))
	}
	if err := a.connect(e); err != nil {
		if undone := detach(a.host, s, e); undone != nil {
			return e, errors.Join(err, fmt.Errorf("undo: %w", undone)) // the record stays, for DEL
		}
		return e, errors.Join(err, s.Remove(e.Attachment))
	}
	return e, nil
}

// plan returns the record of the future attachment.
func (a *addition) plan(e entry, given allocation) (attachment, error) {
	state := attachment{Netns: a.args.Netns, Address: given.Address, Table: given.Table}
	mtu := a.conf.mtu
	var err error
	if mtu == 0 {
		if mtu, err = uplinkMTU(a.host, state); err != nil {
			return state, err
		}
	}
	id := identity{e.Attachment}
	state.Veth, state.Alias = id.veth(a.conf.VethPrefix, mtu), id.alias()
	if state.Metric, err = freeMetric(a.pod, state); err != nil {
		return state, err
	}
	if others := state.Metric - firstMetric(state); others > 0 {
		state.PodTable = priorityFrom + others
	}
	return state, nil
}

// connect makes everything that the record names.
func (a *addition) connect(e entry) error {
	// The link is left from an ADD whose record is lost: no other link has this hardware address or alias.
	if err := removeVeth(a.host, e.Attachment, e.State.Veth.Host); err != nil {
		return err
	}
	if err := a.host.AddVeth(a.pod, e.State.Veth); err != nil {
		return err
	}
	if err := (&hostSide{host: a.host}).ensureAnew(e.State); err != nil {
		return err
	}
	return connectPod(a.pod, e.State)
}

// result lists both ends of the veth, the address with its next hop, and the routes in the pod.
func (a *addition) result(e entry) *current.Result {
	state := e.State
	result := &current.Result{
		Interfaces: []*current.Interface{
			{Name: state.Veth.Host, Mac: state.Veth.HostMAC},
			{Name: state.Veth.Pod, Mac: state.Veth.PodMAC, Sandbox: a.args.Netns},
		},
		IPs: []*current.IPConfig{
			{Interface: current.Int(1), Address: *netipx.AddrIPNet(state.Address), Gateway: state.gateway().AsSlice()},
		},
		Routes: []*types.Route{
			{Dst: *netipx.AddrIPNet(state.gateway())}, {Dst: *defaultDestination(state), GW: state.gateway().AsSlice()},
		},
		DNS: a.conf.DNS,
	}
	if a.conf.Version() != current.ImplementedSpecVersion { // 1.0.0 has no mtu, and no scope or priority of a route
		return result
	}
	for _, link := range result.Interfaces {
		link.Mtu = state.Veth.MTU
	}
	for _, r := range result.Routes {
		r.Priority = state.Metric
	}
	if !state.isIPv6() { // IPv6 routes have no scope of their own
		scope := linkScope
		result.Routes[0].Scope = &scope
	}
	return result
}

func defaultDestination(a attachment) *net.IPNet {
	if a.isIPv6() {
		return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
}
