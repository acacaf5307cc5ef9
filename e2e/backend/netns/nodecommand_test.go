package netns_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
)

// onNode makes the test binary a program on a node that acts like a plugin and its daemon in EC2.
const onNode = "on-node"

// eniConfig is a secondary ENI to set up, with its address and routing table.
type eniConfig struct {
	Name             string
	Address, Gateway netip.Addr
	Table            int
}

// podConfig is a pod to attach. Table is the routing table of its ENI; with 0 its packets use the main table.
type podConfig struct {
	Netns, HostEnd string
	Address        netip.Addr
	Table          int
}

// metadataRequest is a request to the metadata service, with or without a token.
type metadataRequest struct {
	Path  string
	Token bool
}

// do runs a command of nodeCommand on a node.
func do(tb testing.TB, a *agent.Client, verb string, config any) string {
	tb.Helper()
	text, err := json.Marshal(config)
	check(tb, err)
	reply, err := a.Command(ctx(tb), agent.CommandArgs{Argv: []string{"/proc/self/exe", onNode, verb, string(text)}})
	check(tb, err)
	if reply.ExitCode != 0 {
		tb.Fatalf("%s %s: %s", verb, text, reply.Output)
	}
	return reply.Output
}

func nodeCommand(args []string) error {
	switch verb, text := args[0], []byte(args[1]); verb {
	case "eni":
		var c eniConfig
		return errors.Join(json.Unmarshal(text, &c), c.setUp())
	case "pod":
		var c podConfig
		return errors.Join(json.Unmarshal(text, &c), c.attach())
	case "metadata":
		var r metadataRequest
		return errors.Join(json.Unmarshal(text, &r), r.ask())
	}
	return fmt.Errorf("command %q: want eni, pod or metadata", args[0])
}

func (c eniConfig) setUp() error {
	link, err := netlink.LinkByName(c.Name)
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	for _, step := range []func() error{
		func() error { return netlink.LinkSetUp(link) },
		func() error {
			return netlink.AddrAdd(link, &netlink.Addr{
				IPNet: netipx.AddrIPNet(c.Address), Flags: unix.IFA_F_NOPREFIXROUTE,
			})
		},
		func() error {
			return netlink.RouteAdd(&netlink.Route{
				LinkIndex: index, Table: c.Table, Dst: netipx.AddrIPNet(c.Gateway), Scope: netlink.SCOPE_LINK,
			})
		},
		func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Table: c.Table, Gw: c.Gateway.AsSlice()})
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// attach makes a pod's veth, and rules 512 and 1536 on the node.
func (c podConfig) attach() error {
	pod, err := ns.GetNS(c.Netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.HostEnd
	if err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(pod.Fd())),
	}); err != nil {
		return err
	}
	host, err := netlink.LinkByName(c.HostEnd)
	if err != nil {
		return err
	}
	address := netipx.AddrIPNet(c.Address)
	to, from := netlink.NewRule(), netlink.NewRule()
	to.Priority, to.Dst, to.Table = 512, address, unix.RT_TABLE_MAIN
	from.Priority, from.Src, from.Table = 1536, address, c.Table
	if err := errors.Join(
		netlink.LinkSetUp(host),
		netlink.RouteAdd(&netlink.Route{LinkIndex: host.Attrs().Index, Dst: address, Scope: netlink.SCOPE_LINK}),
		netlink.RuleAdd(to),
	); err != nil {
		return err
	}
	if c.Table > 0 {
		if err := netlink.RuleAdd(from); err != nil {
			return err
		}
	}
	return pod.Do(func(ns.NetNS) error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		index, gateway := eth0.Attrs().Index, netip.MustParseAddr("169.254.1.1")
		return errors.Join(
			netlink.LinkSetUp(eth0),
			netlink.AddrAdd(eth0, &netlink.Addr{IPNet: address}),
			netlink.RouteAdd(&netlink.Route{
				LinkIndex: index, Dst: netipx.AddrIPNet(gateway), Scope: netlink.SCOPE_LINK,
			}),
			netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway.AsSlice()}),
			netlink.NeighAdd(&netlink.Neigh{
				LinkIndex: index, IP: gateway.AsSlice(),
				HardwareAddr: host.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT,
			}),
		)
	})
}

// ask prints the status and the text of the answer.
func (r metadataRequest) ask() error {
	const base = "http://169.254.169.254/latest/"
	fetch := func(method, path string, header ...string) (string, error) {
		req, err := http.NewRequest(method, base+path, nil)
		if err != nil {
			return "", err
		}
		for pair := range slices.Chunk(header, 2) {
			req.Header.Set(pair[0], pair[1])
		}
		reply, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		if reply.StatusCode != http.StatusOK {
			return reply.Status, err
		}
		return string(text), err
	}
	var header []string
	if r.Token {
		token, err := fetch(http.MethodPut, "api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
		if err != nil {
			return err
		}
		header = []string{"X-aws-ec2-metadata-token", token}
	}
	text, err := fetch(http.MethodGet, "meta-data/"+r.Path, header...)
	fmt.Print(text)
	return err
}
