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

// emptyNamespace does at once with the links of a namespace that ends what the kernel does some time after its end, on
// a busy machine long after it: until then a macvlan's parent still has the macvlan's MAC, and whoever looks at the
// node takes it for somebody's entry. Hardware goes back to the node, all other links are deleted (net/core/dev.c,
// default_device_exit_net).
func emptyNamespace(path string) error {
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
			if link.Attrs().Group == DeviceGroup {
				err = returnDevice(link, taken[link.Attrs().Name], own)
			} else {
				// Some cannot be deleted, such as lo, and some went with their parent.
				_ = netlink.LinkDel(link)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// returnDevice moves a link that stands for hardware out of the thread's namespace. It is then down and has the name
// that it had there, or devN if the node already has a link of that name.
func returnDevice(link netlink.Link, taken bool, node ns.NetNS) error {
	if err := netlink.LinkSetDown(link); err != nil {
		return err
	}
	if taken {
		if err := netlink.LinkSetName(link, fmt.Sprintf("dev%d", link.Attrs().Index)); err != nil {
			return err
		}
	}
	return netlink.LinkSetNsFd(link, int(node.Fd()))
}
