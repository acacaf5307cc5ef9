package probe

import (
	"errors"
	"fmt"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespace is an open network namespace; the zero value is that of the process.
type namespace struct {
	handle ns.NetNS
}

func openNamespace(path string) (namespace, error) {
	if path == "" {
		return namespace{}, nil
	}
	handle, err := ns.GetNS(path)
	var missing ns.NSPathNotExistErr
	if errors.As(err, &missing) {
		return namespace{}, fmt.Errorf("network namespace %q: %w", path, unix.ENOENT)
	}
	if err != nil {
		return namespace{}, fmt.Errorf("network namespace %q: %w", path, err)
	}
	return namespace{handle: handle}, nil
}

func (n namespace) close() {
	if n.handle != nil {
		// Nothing can be lost when a file that was only opened to be entered is closed.
		_ = n.handle.Close()
	}
}

// do calls fn on a thread in the namespace. fn creates sockets and returns; it must not wait for traffic.
func (n namespace) do(fn func() error) error {
	if n.handle == nil {
		return fn()
	}
	return n.handle.Do(func(ns.NetNS) error { return fn() })
}

// netlink opens a route netlink socket in the namespace. The caller closes it.
func (n namespace) netlink() (netlinksafe.Handle, error) {
	var handle netlinksafe.Handle
	err := n.do(func() (err error) {
		handle, err = netlinksafe.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return handle, fmt.Errorf("open netlink: %w", err)
	}
	return handle, nil
}

// onLink opens netlink in the namespace at path and calls fn with it and the link named ifname.
func onLink(path, ifname string, fn func(netlinksafe.Handle, netlink.Link) error) error {
	n, err := openNamespace(path)
	if err != nil {
		return err
	}
	defer n.close()
	handle, err := n.netlink()
	if err != nil {
		return err
	}
	defer handle.Close()
	link, err := handle.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("link %q: %w", ifname, err)
	}
	return fn(handle, link)
}
