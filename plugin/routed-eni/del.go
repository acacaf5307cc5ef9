package main

import (
	"errors"
	"log"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"go4.org/netipx"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// cmdDel removes everything that the record names. It never needs the pod, prevResult or ipamd: if it cannot reach
// ipamd, GC releases the address.
//
// It cleans up the node before it gives the address back, so that nobody gets an address that still leads to this pod.
func cmdDel(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	host, err := kernel.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	known, err := clearNode(host, conf, args)
	if err != nil {
		return err
	}
	var who podArgs
	if err := types.LoadArgs(args.Args, &who); err != nil {
		log.Printf("CNI_ARGS: %v", err)
	}
	d, err := dial(conf.Socket)
	if err != nil {
		return err
	}
	defer d.close()
	ip, err := d.release(conf.Attachment(args), who)
	if err != nil {
		log.Printf("the address stays assigned until GC: %v", err)
	}
	if known || !ip.IsValid() {
		return nil
	}
	return forgetReleased(host, ip)
}

// clearNode removes the state of the attachment on the node. It reports whether there was a readable record.
//
// The kernel takes a grace period of RCU to remove the veth. Other calls need not wait for that, so it happens before
// the lock is taken: the veth's name and its hardware address are this attachment's alone.
func clearNode(host *kernel.Namespace, conf *config, args *skel.CmdArgs) (known bool, err error) {
	if err := removeRecordedVeth(host, conf.Attachment(args)); err != nil {
		return false, err
	}
	s, err := openStore(true) // for its lock, even where there is no record
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	a := conf.Attachment(args)
	e, err := s.Load(a)
	if e != nil {
		return true, release(host, s, *e)
	}
	if err := record.UnlessCorrupt(err); err != nil {
		return false, err
	}
	had := fromPrevResult(conf, args.IfName)
	for _, ip := range had {
		if err := forgetInPod(host, args.Netns, ip); err != nil {
			return false, err
		}
	}
	if err := removeUnrecorded(host, s, a, identity{a}.name(conf.VethPrefix), had...); err != nil {
		return false, err
	}
	return false, s.Remove(a) // a record that cannot be read
}

// removeRecordedVeth removes the veth that the record names; the lock is held only to read the record.
func removeRecordedVeth(host *kernel.Namespace, a record.Attachment) error {
	s, err := openStore(false)
	if s == nil || err != nil {
		return err
	}
	e, err := s.Load(a)
	if err := errors.Join(record.UnlessCorrupt(err), s.Close()); e == nil || err != nil {
		return err
	}
	return removeVeth(host, a, e.State.Veth.Host)
}

// forgetReleased removes the rules for an address that this attachment had according to ipamd alone.
func forgetReleased(host *kernel.Namespace, ip netip.Addr) (err error) {
	s, err := openStore(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	held, err := isHeld(s, ip)
	if err != nil || held {
		return err
	}
	return forget(host, ip)
}

// fromPrevResult returns the addresses that prevResult gives to the interface.
func fromPrevResult(conf *config, ifName string) []netip.Addr {
	prev, err := conf.PrevResult()
	if err != nil {
		log.Print(err) // the cache is damaged; SPEC.md, DEL: complete without it
	}
	if prev == nil {
		return nil
	}
	return addressesOn(prev, ifName)
}

// addressesOn returns the addresses of a link in the pod. Results before 0.3.0 name no link.
func addressesOn(result *current.Result, ifName string) []netip.Addr {
	var ips []netip.Addr
	for _, ip := range result.IPs {
		if i := ip.Interface; i != nil && (result.Interfaces[*i].Name != ifName ||
			result.Interfaces[*i].Sandbox == "") {
			continue
		}
		if addr, ok := netipx.FromStdIP(ip.Address.IP); ok {
			ips = append(ips, addr)
		}
	}
	return ips
}
