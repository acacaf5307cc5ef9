package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/plugins/pkg/ipam"
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
)

// deviceRecord contains the properties of a device that host-device does not restore.
type deviceRecord struct {
	MAC, Alias string
}

func (c *call) recordPath() string { return "/run/broken-" + c.Device }

// recordDevice records the properties of the device before the pod gets it.
func recordDevice(c *call) error {
	link, err := netlinksafe.LinkByName(c.Device)
	if err != nil {
		return err
	}
	data, err := json.Marshal(deviceRecord{MAC: link.Attrs().HardwareAddr.String(), Alias: link.Attrs().Alias})
	if err != nil {
		return err
	}
	return os.WriteFile(c.recordPath(), data, 0o600)
}

// returnDevice lets the delegate return the device, or finds it where the kernel left it, and restores its properties.
func returnDevice(c *call) error {
	delegate := c.Delegate
	c.Delegate = ""
	data, err := os.ReadFile(c.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was returned
	}
	if err != nil {
		return err
	}
	var was deviceRecord
	if err := json.Unmarshal(data, &was); err != nil {
		return err
	}
	if _, err := os.Stat(c.Netns); err == nil {
		if err := invoke.DelegateDel(context.Background(), delegate, c.StdinData, nil); err != nil {
			return err
		}
	} else if err := ipam.ExecDel("host-local", c.StdinData); err != nil {
		return err
	}
	links, err := netlinksafe.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Attrs().HardwareAddr.String() != was.MAC {
			continue
		}
		if err := errors.Join(
			netlink.LinkSetDown(link), netlink.LinkSetName(link, c.Device), netlink.LinkSetAlias(link, was.Alias),
			netlink.LinkSetUp(link),
		); err != nil {
			return err
		}
	}
	return os.Remove(c.recordPath())
}

// shrinkInPod gives the pod's device another MTU.
func shrinkInPod(c *call) error {
	return inPod(c, func(link netlink.Link) error { return netlink.LinkSetMTU(link, 1280) })
}

// thenDevice returns the device, and then spoils it.
func thenDevice(spoil func(netlink.Link) error) func(*call) error {
	return func(c *call) error {
		if err := returnDevice(c); err != nil {
			return err
		}
		link, err := netlinksafe.LinkByName(c.Device)
		if err != nil {
			return err
		}
		return spoil(link)
	}
}

func removeAltNames(link netlink.Link) error {
	var err error
	for _, name := range link.Attrs().AltNames {
		err = errors.Join(err, netlink.LinkDelAltName(link, name))
	}
	return err
}
