package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ObstacleArgs name something that is to obstruct a plugin.
type ObstacleArgs struct {
	Netns string `json:"netns"`
	// Name is the name of an interface.
	Name string `json:"name"`
}

// AddBridge creates a bridge, so that a plugin finds its name taken.
func (s *Server) AddBridge(args ObstacleArgs, _ *None) error {
	return inNamespace(args.Netns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = args.Name
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	})
}

// occupier is the bridge that OccupyLink makes.
const occupier = "cnitest-owner"

// OccupyLink makes an interface the port of a bridge: the kernel lets nobody else receive its frames, so that a macvlan
// or an ipvlan on it is refused with EBUSY (netdev_rx_handler_register).
func (s *Server) OccupyLink(args ObstacleArgs, _ *None) error {
	if err := s.AddBridge(ObstacleArgs{Netns: args.Netns, Name: occupier}, nil); err != nil {
		return err
	}
	return inNamespace(args.Netns, func() error {
		bridge, err := netlink.LinkByName(occupier)
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName(args.Name)
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(link, bridge)
	})
}

// RenameLinkArgs describe an interface and its new name.
type RenameLinkArgs struct {
	Netns, Name, NewName string
}

// RenameLink gives an interface another name, so that nobody finds it under the old one. It keeps its addresses. A
// kernel that cannot rename an interface that is up (before Linux 6.2) loses its routes.
func (s *Server) RenameLink(args RenameLinkArgs, _ *None) error {
	return inNamespace(args.Netns, func() error {
		link, err := netlink.LinkByName(args.Name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", args.Name, err)
		}
		if err := netlink.LinkSetName(link, args.NewName); !errors.Is(err, unix.EBUSY) {
			return err
		}
		// Otherwise IPv6 addresses disappear with the carrier (ip-sysctl.rst, keep_addr_on_down).
		if _, err := sysctl.Sysctl("net/ipv6/conf/"+args.Name+"/keep_addr_on_down", "1"); err != nil &&
			!errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, args.NewName), netlink.LinkSetUp(link))
	})
}

// PinFile mounts a file over itself, so that nobody can remove or replace it: rename(2) and unlink(2) answer EBUSY for
// a mount point.
func (s *Server) PinFile(path string, _ *None) error {
	if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	return nil
}

// UnpinFile undoes PinFile.
func (s *Server) UnpinFile(path string, _ *None) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unpin %s: %w", path, err)
	}
	return nil
}

// BlockDir puts a file in the place of a directory, so that nothing can be made below it.
func (s *Server) BlockDir(path string, _ *None) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return s.WriteFile(File{Path: path, Mode: 0o600}, nil)
}

// UnblockDir undoes BlockDir; what was below the directory does not come back.
func (s *Server) UnblockDir(path string, _ *None) error { return os.Remove(path) }
