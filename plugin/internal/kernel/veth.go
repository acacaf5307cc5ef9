package kernel

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// Veth is a pair of links, one on a node and one in a pod.
type Veth struct {
	Host    string `json:"host"`
	HostMAC string `json:"hostMAC"`
	Pod     string `json:"pod"`
	PodMAC  string `json:"podMAC"`
	MTU     int    `json:"mtu"` // of both ends
}

// AddVeth makes both ends in one call, each in its namespace and with its final name and hardware address: no other
// process, such as udev, ever sees them otherwise. Both are down. If a name is taken, it returns an error and makes
// nothing.
func (n *Namespace) AddVeth(pod *Namespace, v Veth) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = v.Host, v.MTU
	link := netlink.NewVeth(attrs)
	link.PeerName, link.PeerMTU, link.PeerNamespace = v.Pod, uint32(v.MTU), netlink.NsFd(pod.Fd())
	var err error
	if link.HardwareAddr, err = net.ParseMAC(v.HostMAC); err != nil {
		return err
	}
	if link.PeerHardwareAddr, err = net.ParseMAC(v.PodMAC); err != nil {
		return err
	}
	if err := n.LinkAdd(link); err != nil {
		return fmt.Errorf("link %s, with %s in the pod: create: %w", v.Host, v.Pod, err)
	}
	return nil
}
