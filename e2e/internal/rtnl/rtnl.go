// Package rtnl waits for the kernel's RTNL lock without using a processor.
//
// Some sysctls need the lock and do not sleep until they get it, but restart again and again (rtnl_trylock and
// restart_syscall in net/ipv4/devinet.c and net/ipv6/addrconf.c). Taking down a network namespace holds the lock for up
// to a tenth of a second; a process that waits for it in this way takes a processor from plugins and probes.
package rtnl

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Wait sleeps until the lock was free, by a change of lo that changes nothing. A caller that reads or writes such a
// sysctl at once afterwards most likely gets the lock. It may be called concurrently.
func Wait() {
	request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	request.AddData(&nl.IfInfomsg{IfInfomsg: unix.IfInfomsg{Family: unix.AF_UNSPEC, Index: 1}})
	_, _ = request.Execute(unix.NETLINK_ROUTE, 0) // the sysctl waits in any case
}
