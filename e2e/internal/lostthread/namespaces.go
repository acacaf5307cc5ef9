package lostthread

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Namespaces are a mount and a network namespace.
type Namespaces struct{ mount, network *os.File }

// Here opens those of the calling thread. Close must follow.
func Here() (n Namespaces, err error) {
	if n.mount, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
		return n, err
	}
	if n.network, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		n.Close()
	}
	return n, err
}

// Enter moves the calling thread, which should be one of Do, into the namespaces.
func (n Namespaces) Enter() error {
	return errors.Join(
		unix.Unshare(unix.CLONE_FS),
		unix.Setns(int(n.mount.Fd()), unix.CLONE_NEWNS),
		unix.Setns(int(n.network.Fd()), unix.CLONE_NEWNET),
	)
}

// Close closes the files. It may be called again, and for the zero value.
func (n Namespaces) Close() { _, _ = n.mount.Close(), n.network.Close() }
