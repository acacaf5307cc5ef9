package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
)

// DeviceGroup is the group of links (ip-link(8)) that are a node's hardware, which outlasts the namespaces it is in.
const DeviceGroup = 4242

// returnDevices moves hardware out of a namespace that ends, as the kernel does with devices of drivers but not with
// the links that stand for them here. A device is then down and has the name that it had there, or devN if the node
// already has a link of that name (net/core/dev.c, default_device_exit_net).
func returnDevices(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	taken := map[string]bool{}
	here, err := netlinksafe.LinkList()
	if err != nil {
		return err
	}
	for _, link := range here {
		taken[link.Attrs().Name] = true
	}
	// Do not ask for the process's namespace: its first thread may be in a pod at this moment.
	own, err := ns.GetCurrentNS()
	if err != nil {
		return err
	}
	defer own.Close()
	return inNamespace(path, func() error {
		links, err := netlinksafe.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			if link.Attrs().Group != DeviceGroup {
				continue
			}
			if err := netlink.LinkSetDown(link); err != nil {
				return err
			}
			if taken[link.Attrs().Name] {
				if err := netlink.LinkSetName(link, fmt.Sprintf("dev%d", link.Attrs().Index)); err != nil {
					return err
				}
			}
			if err := netlink.LinkSetNsFd(link, int(own.Fd())); err != nil {
				return err
			}
		}
		return nil
	})
}
