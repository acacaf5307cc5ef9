package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netlink"
)

// store is the directory of the plugin's files on the node.
const store = "/var/lib/broken"

func write(name string) error {
	if err := os.MkdirAll(store, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(store, name), nil, 0o644)
}

// lingering is the argument with which the plugin keeps running.
const lingering = "linger"

func linger(*call) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, lingering)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// killDHCP ends upstream's DHCP daemon, which renews the leases of all pods.
func killDHCP(*call) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		words, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err == nil && bytes.Contains(words, []byte("dhcp\x00daemon\x00")) {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// asContainer makes the delegate see another container ID than that of the pod.
func asContainer(id string) func(*call) error {
	return func(*call) error { return os.Setenv("CNI_CONTAINERID", id) }
}

func shrink(c *call) error {
	link, err := netlink.LinkByName(c.Master)
	if err != nil {
		return err
	}
	return netlink.LinkSetMTU(link, 1400)
}

// removeDefault removes the default route, unless an earlier ADD did.
func removeDefault(*call) error {
	_ = netlink.RouteDel(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
	return nil
}

// raiseSetting increases by one the time after which the node probes an idle connection.
func raiseSetting(*call) error {
	const key = "net/ipv4/tcp_keepalive_time"
	text, err := sysctl.Sysctl(key)
	if err != nil {
		return err
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	_, err = sysctl.Sysctl(key, strconv.Itoa(value+1))
	return err
}

// noteMaster leaves a file for each attachment whose configuration has the key master.
func noteMaster(c *call) error {
	if c.Master == "" {
		return nil
	}
	return write(c.ContainerID)
}

// wantMaster is the error of DEL if that file is missing.
func wantMaster(c *call) error {
	if c.Master == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(store, c.ContainerID)); err != nil {
		return fmt.Errorf("attached without master: %w", err)
	}
	return nil
}
