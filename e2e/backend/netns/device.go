package netns

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/cnitest/cnitest/e2e/agent"
)

func devicePort(index, n int) string { return fmt.Sprintf("dev-%d-%d", index, n) }

// plugDevices makes the devices for a node's pods. Each has an alias and another name, as administrators and udev set
// them.
func (l *lab) plugDevices(ctx context.Context, index int) error {
	for n, device := range l.plan.Nodes[index].Devices {
		s, _ := l.socket(index)
		s.name, s.mac, s.addresses = device.Name, nodeMAC(index, byte(0x10+n)), nil
		if device.MAC != "" {
			mac, err := net.ParseMAC(device.MAC)
			if err != nil {
				return err
			}
			s.mac = mac
		}
		if err := l.plug(ctx, underlay, devicePort(index, n), s); err != nil {
			return err
		}
		link, err := s.links.LinkByName(device.Name)
		if err != nil {
			return err
		}
		if err := errors.Join(
			s.links.LinkSetAlias(link, fmt.Sprintf("port %d of the lab", n)),
			s.links.LinkSetGroup(link, agent.DeviceGroup),
			s.links.LinkAddAltName(link, fmt.Sprintf("enp9s%d", n)),
		); err != nil {
			return fmt.Errorf("%s: %w", device.Name, err)
		}
	}
	return nil
}
