// Package kernel reads and changes links, addresses, host routes, neighbours and sysctls of a network namespace in the
// way a CNI plugin needs: every change may be made again, and deleting a thing that is already gone is no error.
//
// It is not a netlink library (that is github.com/vishvananda/netlink) and knows nothing of CNI.
//
// Tests: go test ./plugin/internal/kernel (as root)
package kernel

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is an open network namespace. It is not safe for concurrent use.
type Namespace struct {
	netlinksafe.Handle
	ns     netns.NsHandle
	socket *nl.SocketHandle // of request, nil until it is needed
	// current says that it was the namespace of the calling thread.
	current  bool
	settings map[string]int // descriptors of the directories with links' settings, by family, of those that were needed
}

// Current opens the namespace of the calling thread. Callers of its methods have to be in it, too.
func Current() (*Namespace, error) {
	handle, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("own network namespace: %w", err)
	}
	n, err := newNamespace(handle)
	if err != nil {
		return nil, err
	}
	n.current = true
	return n, nil
}

// Open opens the namespace at path. If path is not a network namespace, the error says so.
func Open(path string) (*Namespace, error) {
	handle, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace %q: %w", path, err)
	}
	n, err := newNamespace(handle)
	if err != nil {
		return nil, fmt.Errorf("network namespace %q: %w", path, err)
	}
	return n, nil
}

// Exhausted reports whether something could not be opened or read for a reason that says nothing about it: there were
// no open files or no memory left, or the device failed.
func Exhausted(err error) bool {
	return slices.ContainsFunc([]error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EIO}, func(e error) bool {
		return errors.Is(err, e)
	})
}

func newNamespace(ns netns.NsHandle) (*Namespace, error) {
	handle, err := netlinksafe.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		_ = ns.Close()
		return nil, err
	}
	return &Namespace{Handle: handle, ns: ns}, nil
}

// Close frees the namespace.
func (n *Namespace) Close() {
	n.Handle.Close()
	if n.socket != nil {
		n.socket.Close()
	}
	for _, dir := range n.settings {
		_ = unix.Close(dir)
	}
	_ = n.ns.Close()
}

// Fd returns the namespace's file descriptor, which is open until Close.
func (n *Namespace) Fd() int { return int(n.ns) }

// inside runs a function with the calling thread in the namespace, for what depends on the namespace of its caller.
func (n *Namespace) inside(do func() error) error {
	if n.current {
		return do()
	}
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer own.Close()
	if err := netns.Set(n.ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = do()
	if back := netns.Set(own); back != nil {
		// The thread stays locked: nobody else may use it.
		return errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

// Is reports whether both are the same namespace.
func (n *Namespace) Is(other *Namespace) bool {
	return n.ns.Equal(other.ns)
}

// IsNotFound reports whether err says that a link, route, neighbour or namespace does not exist.
func IsNotFound(err error) bool {
	var link netlink.LinkNotFoundError
	return errors.As(err, &link) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, unix.ENODEV)
}

// IsParent reports whether the device below link, which is in this namespace, is parent in another namespace. An index
// alone does not tell, since each namespace numbers its own links.
func (n *Namespace) IsParent(link netlink.Link, parent int, of *Namespace) (bool, error) {
	if link.Attrs().ParentIndex != parent {
		return false, nil
	}
	if link.Attrs().NetNsID < 0 {
		return n.Is(of), nil
	}
	id, err := n.GetNetNsIdByFd(int(of.ns))
	if err != nil {
		return false, fmt.Errorf("link %s: namespace of its parent: %w", link.Attrs().Name, err)
	}
	return id == link.Attrs().NetNsID, nil
}

// LinkList returns all links. The method of netlinksafe takes half a list for the whole after some attempts.
func (n *Namespace) LinkList() ([]netlink.Link, error) { return Retry(n.Handle.Handle.LinkList) }

// Retry repeats a dump that was interrupted by a change, as the kernel reports. After the last attempt it returns the
// error: a caller that acts on half a list would delete or forget things.
func Retry[T any](list func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		result, err := list()
		if attempt == 10 || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return result, err
		}
	}
}
