// Command ledger is BROKEN ON PURPOSE: a negative control on which `make test` runs scenarios. Never install it.
//
// It is a main plugin whose daemon keeps the ledger of addresses: it takes the addresses of the range that its `ipam`
// has, and delegates everything else to the plugin that the key `delegate` names, with a static address. The daemon is
// this program with the argument daemon, and the fault as the next one. Without a fault it passes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"go4.org/netipx"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		log.Fatal(serve(append(os.Args, "")[2]))
	}
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check, GC: gc, Status: status}, version.All,
		"broken on purpose")
}

// addresses is a range of addresses, as host-local has it.
type addresses struct {
	Subnet     types.IPNet `json:"subnet"`
	RangeStart netip.Addr  `json:"rangeStart"`
	RangeEnd   netip.Addr  `json:"rangeEnd"`
	Gateway    string      `json:"gateway"`
}

type config struct {
	types.PluginConf
	Delegate string `json:"delegate"`
	IPAM     struct {
		addresses
		Ranges [][]addresses  `json:"ranges"`
		Routes []*types.Route `json:"routes"`
	} `json:"ipam"`
}

type podName struct {
	types.CommonArgs
	K8S_POD_NAME types.UnmarshallableString //nolint:revive,staticcheck // a name of CNI_ARGS
}

func parse(args *skel.CmdArgs) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(args.StdinData, c); err != nil {
		return nil, err
	}
	if len(c.IPAM.Ranges) > 0 {
		c.IPAM.addresses = c.IPAM.Ranges[0][0]
	}
	c.IPAM.complete()
	return c, version.ParsePrevResult(&c.PluginConf)
}

// complete sets what host-local has as defaults: the gateway is the first address, and pods have all others.
func (a *addresses) complete() {
	prefix, ok := netipx.FromStdIPNet((*net.IPNet)(&a.Subnet))
	if !ok {
		return
	}
	all := netipx.RangeOfPrefix(prefix)
	if a.Gateway == "" {
		a.Gateway = all.From().Next().String()
	}
	if !a.RangeStart.IsValid() {
		a.RangeStart = all.From().Next().Next()
	}
	if !a.RangeEnd.IsValid() {
		a.RangeEnd = all.To().Prev()
	}
}

// request returns the daemon's request of a call.
func (c *config) request(verb string, args *skel.CmdArgs) (request, error) {
	name := podName{CommonArgs: types.CommonArgs{IgnoreUnknown: true}}
	err := types.LoadArgs(args.Args, &name)
	r := request{
		Verb: verb, Attachment: attachment{args.ContainerID, args.IfName}, Pod: string(name.K8S_POD_NAME),
		From: c.IPAM.RangeStart, To: c.IPAM.RangeEnd,
	}
	for _, a := range c.ValidAttachments {
		r.Valid = append(r.Valid, attachment{a.ContainerID, a.IfName})
	}
	return r, err
}

// delegated returns the configuration of the delegate with the address that the pod has, if it has one.
func (c *config) delegated(stdin []byte, ip netip.Addr) ([]byte, error) {
	keys := map[string]any{}
	if err := json.Unmarshal(stdin, &keys); err != nil {
		return nil, err
	}
	ipam := map[string]any{"type": "static", "routes": c.IPAM.Routes}
	if ip.IsValid() {
		bits, _ := c.IPAM.Subnet.Mask.Size()
		ipam["addresses"] = []any{map[string]any{
			"address": netip.PrefixFrom(ip, bits).String(), "gateway": c.IPAM.Gateway,
		}}
	}
	keys["type"], keys["ipam"] = c.Delegate, ipam
	return json.Marshal(keys)
}

// has returns the address of prevResult.
func (c *config) has() netip.Addr {
	if c.PrevResult == nil {
		return netip.Addr{}
	}
	result, err := current.NewResultFromResult(c.PrevResult)
	if err != nil || len(result.IPs) == 0 {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(result.IPs[0].Address.IP)
	return ip.Unmap()
}

func add(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	r, err := c.request("ADD", args)
	if err != nil {
		return err
	}
	got, err := ask(r, 5*time.Second)
	if err != nil {
		return types.NewError(types.ErrTryAgainLater, err.Error(), "")
	}
	stdin, err := c.delegated(args.StdinData, got.Address)
	if err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(context.Background(), c.Delegate, stdin, nil)
	if err != nil {
		r.Verb = "DEL"
		_, undone := ask(r, time.Second)
		return errors.Join(err, undone)
	}
	return types.PrintResult(result, c.CNIVersion)
}

// del needs no daemon: GC tells it later.
func del(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	stdin, err := c.delegated(args.StdinData, c.has())
	if err != nil {
		return err
	}
	if err := invoke.DelegateDel(context.Background(), c.Delegate, stdin, nil); err != nil {
		return err
	}
	r, err := c.request("DEL", args)
	if err != nil {
		return err
	}
	if _, err := ask(r, time.Second); err != nil {
		log.Print(err)
	}
	return nil
}

func check(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	stdin, err := c.delegated(args.StdinData, c.has())
	if err != nil {
		return err
	}
	return invoke.DelegateCheck(context.Background(), c.Delegate, stdin, nil)
}

func gc(args *skel.CmdArgs) error { return tell("GC", args, types.ErrTryAgainLater) }

func status(args *skel.CmdArgs) error { return tell("STATUS", args, types.ErrPluginNotAvailable) }

// tell sends the daemon the request of a call, which fails with the code if the daemon does not do it.
func tell(verb string, args *skel.CmdArgs, code uint) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	r, err := c.request(verb, args)
	if err != nil {
		return err
	}
	if _, err := ask(r, 5*time.Second); err != nil {
		return types.NewError(code, err.Error(), "")
	}
	return nil
}

// ask sends a request to the daemon and returns its answer.
func ask(r request, within time.Duration) (reply, error) {
	conn, err := net.DialTimeout("unix", socket, within)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return reply{}, err
	}
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return reply{}, fmt.Errorf("daemon: %w", err)
	}
	var got reply
	if err := json.NewDecoder(conn).Decode(&got); err != nil {
		return reply{}, fmt.Errorf("daemon: %w", err)
	}
	if got.Error != "" {
		return reply{}, fmt.Errorf("daemon: %s", got.Error)
	}
	return got, nil
}
