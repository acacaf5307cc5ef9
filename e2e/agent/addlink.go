package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
)

// AddLinkArgs describe an interface to make.
type AddLinkArgs struct {
	// Netns is its namespace, Name its name there.
	Netns string `json:"netns"`
	Name  string `json:"name"`
	// Parent, if not empty, is an interface of the agent's own namespace: the new one is a macvlan of it, in mode
	// bridge.
	Parent string `json:"parent,omitempty"`
	// PeerNetns and PeerName describe the other end of the veth that is made without a parent.
	PeerNetns string `json:"peerNetns,omitempty"`
	PeerName  string `json:"peerName,omitempty"`
}

// An interface and its peer are made under these names: Linux 6.1 wants a name to be free also in the namespace of the
// caller.
const newLink, newPeer = "cnitest-new", "cnitest-peer"

// AddLink makes an interface and brings it up, with its peer. One call at a time.
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
	attrs := netlink.LinkAttrs{Name: newLink, Namespace: netlink.NsFd(here)}
	if args.Parent != "" {
		parent, err := netlinksafe.LinkByName(args.Parent)
		if err != nil {
			return err
		}
		attrs.ParentIndex = parent.Attrs().Index
		if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
			return err
		}
		return finish(args.Netns, newLink, args.Name)
	}
	there, err := vnetns.GetFromPath(args.PeerNetns)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: newPeer, PeerNamespace: netlink.NsFd(there),
	}); err != nil {
		return err
	}
	return errors.Join(finish(args.Netns, newLink, args.Name), finish(args.PeerNetns, newPeer, args.PeerName))
}

// finish gives a new interface its name and brings it up.
func finish(netns, made, name string) error {
	return inNamespace(netns, func() error {
		link, err := netlinksafe.LinkByName(made)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetName(link, name), netlink.LinkSetUp(link))
	})
}

// AddLink makes an interface and brings it up, with its peer. One call at a time.
func (c *Client) AddLink(ctx context.Context, args AddLinkArgs) error {
	return tell(ctx, c, "AddLink", args)
}
