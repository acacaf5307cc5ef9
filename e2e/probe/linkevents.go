package probe

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linkEvents receives the kernel's events about the links of a namespace. It queues the name of each link that is made,
// renamed or deleted, so that the name of a deleted link is known. It is not safe for concurrent use.
type linkEvents struct {
	socket *nl.NetlinkSocket
	buffer []byte
}

// subscribeLinks begins to receive events about the links of a namespace. The caller closes it.
func subscribeLinks(n namespace) (*linkEvents, error) {
	e := &linkEvents{buffer: make([]byte, nl.RECEIVE_BUFFER_SIZE)}
	err := n.do(func() (err error) {
		e.socket, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen to links: %w", err)
	}
	// The forced size may exceed the kernel's limit, if the user may do that; events that do not fit are lost.
	if e.socket.SetReceiveBufferSize(captureBuffer, true) != nil {
		err = e.socket.SetReceiveBufferSize(captureBuffer, false)
	}
	if err != nil {
		e.close()
		return nil, fmt.Errorf("listen to links: %w", err)
	}
	return e, nil
}

// read takes the queued events and records the last name of each link in names, by the link's index. It does not wait.
func (e *linkEvents) read(names map[int]string) {
	for {
		n, _, err := unix.Recvfrom(e.socket.GetFd(), e.buffer, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS) {
			continue // the latter reports once that events were lost; others follow
		}
		if err != nil {
			return
		}
		messages, err := syscall.ParseNetlinkMessage(e.buffer[:n])
		if err != nil {
			continue
		}
		for _, m := range messages {
			if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK {
				continue
			}
			header := unix.NlMsghdr(m.Header)
			if link, err := netlink.LinkDeserialize(&header, m.Data); err == nil && link.Attrs().Name != "" {
				names[link.Attrs().Index] = link.Attrs().Name
			}
		}
	}
}

func (e *linkEvents) close() { e.socket.Close() }
