package agent

import (
	"context"
	"fmt"
	"net"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
)

// AddLinkArgs are an interface to make.
type AddLinkArgs struct {
	// Netns and Name are where it is and what it is called there. Kernels differ in whether the name must be free in the agent's own namespace, too.
	Netns string `json:"netns"`
	Name  string `json:"name"`
	// Parent, when not empty, is the interface of the agent's own namespace of which it becomes a macvlan, in mode bridge.
	Parent string `json:"parent,omitempty"`
	// PeerNetns and PeerName are, without a parent, the other end of the veth that it becomes.
	PeerNetns string `json:"peerNetns,omitempty"`
	PeerName  string `json:"peerName,omitempty"`
}

// AddLink makes an interface and brings it up, with its peer.
func (s *Server) AddLink(args AddLinkArgs, _ *None) error {
	if err := addLink(args); err != nil {
		return fmt.Errorf("link %s: %w", args.Name, err)
	}
	return nil
}

func addLink(args AddLinkArgs) error {
	here, err := vnetns.GetFromPath(args.Netns)
	if err != nil {
		return err
	}
	defer here.Close()
	attrs := netlink.LinkAttrs{Name: args.Name, Namespace: netlink.NsFd(here), Flags: net.FlagUp}
	if args.Parent != "" {
		parent, err := netlinksafe.LinkByName(args.Parent)
		if err != nil {
			return err
		}
		attrs.ParentIndex = parent.Attrs().Index
		return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE})
	}
	there, err := vnetns.GetFromPath(args.PeerNetns)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: args.PeerName, PeerNamespace: netlink.NsFd(there)}); err != nil {
		return err
	}
	return new(Server).SetLink(SetLinkArgs{Netns: args.PeerNetns, Name: args.PeerName, Up: true}, nil)
}

// AddLink makes an interface and brings it up, with its peer.
func (c *Client) AddLink(ctx context.Context, args AddLinkArgs) error {
	return tell(ctx, c, "AddLink", args)
}
