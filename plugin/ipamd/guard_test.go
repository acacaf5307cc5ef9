package main

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// With IPv6 the kernel gets a table that drops what pods must not send, before a pod gets an address, and no rules.
func TestDaemon_guard(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread, and its namespace, end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err := errors.Join(err, netlink.LinkSetUp(lo)); err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	inv := inventory("10.0.0.16/28")
	inv.VPC = append(inv.VPC, netip.MustParsePrefix("2001:db8::/56"))
	inv.ENIs[0].Prefixes = append(inv.ENIs[0].Prefixes, netip.MustParsePrefix("2001:db8:0:0:1::/80"))
	l.service.Set(inv)
	p := l.start(childDaemon, slices.DeleteFunc(l.args("--ip-family", "ipv6"), func(s string) bool {
		return s == "--kernel=false"
	})...)
	if got, want := l.assign(p, "a"), "2001:db8::1:0:0:1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil || len(tables) != 1 || tables[0].Name != "cni-ipamd" || tables[0].Family != nftables.TableFamilyIPv6 {
		t.Errorf("got %v, %v; want the table ip6 cni-ipamd alone", tables, err)
	}
	if diff := cmp.Diff([]int{0, 32766, 32767}, nodeRules(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
