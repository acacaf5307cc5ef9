package main

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// state returns everything in a namespace that the plugin may change, a line for each object, in the words of ip where
// it has any.
func state(t *testing.T, n ns.NetNS) string {
	t.Helper()
	var lines []string
	in(t, n, func() (err error) {
		lines, err = kernelState()
		return err
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// state returns the state of a node: that of its namespace, and its records.
func (n *labNode) state(t *testing.T) string {
	t.Helper()
	text := state(t, n.ns)
	n.in(t, func() error {
		return filepath.WalkDir("/run/cni", func(path string, _ fs.DirEntry, err error) error {
			if path != "/run/cni" { // it is a mount point, which cannot be removed
				text += "file " + path + "\n"
			}
			if filepath.Base(path) == ".index" { // its contents belong to package record
				return fs.SkipDir
			}
			return err
		})
	})
	return text
}

func kernelState() ([]string, error) {
	n, err := kernel.Current()
	if err != nil {
		return nil, err
	}
	defer n.Close()
	links, err := n.LinkList()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, link := range links {
		name := link.Attrs().Name
		lines = append(lines, fmt.Sprintf("link %s %s mtu %d up %t", name, link.Type(), link.Attrs().MTU,
			kernel.IsUp(link)))
		permanent, err := n.Permanent(link.Attrs().Index)
		if err != nil {
			return nil, err
		}
		for ip, mac := range permanent {
			lines = append(lines, fmt.Sprintf("neigh %s dev %s lladdr %s", ip, name, mac))
		}
		for _, key := range []string{"ipv4.forwarding", "ipv4.rp_filter", "ipv6.accept_ra"} {
			family, key, _ := strings.Cut(key, ".")
			value, err := n.Sysctl(family, name, key)
			if err != nil {
				return nil, err
			}
			lines = append(lines, fmt.Sprintf("sysctl %s.%s.%s=%s", family, name, key, value))
		}
	}
	value, err := n.Sysctl("ipv6", "all", "forwarding")
	if err != nil {
		return nil, err
	}
	lines = append(lines, "sysctl ipv6.all.forwarding="+value)
	all, err := readRoutes(n)
	if err != nil {
		return nil, err
	}
	for _, listed := range all.listed {
		r, ok := routeOf(listed, all.names[listed.LinkIndex])
		if ok && listed.Table != unix.RT_TABLE_LOCAL && !r.Dst.Addr().IsLinkLocalUnicast() &&
			!r.Dst.Addr().IsMulticast() {
			lines = append(lines, fmt.Sprintf("route %s metric %d", r, r.Metric))
		}
	}
	rules, err := n.Rules()
	if err != nil {
		return nil, err
	}
	for _, rule := range rules {
		lines = append(lines, fmt.Sprintf("rule %d %v iif %q mark %#x lookup %d", rule.Priority,
			rule.Family == unix.AF_INET6, rule.IifName, rule.Mark, rule.Table))
	}
	tables, err := nftablesState()
	return append(lines, tables...), err
}

// nftablesState returns tables, chains and rules as the kernel sends them, byte by byte.
func nftablesState() ([]string, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var lines []string
	for _, what := range []netlink.HeaderType{unix.NFT_MSG_GETTABLE, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE} {
		replies, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | what, Flags: netlink.Request | netlink.Dump},
			Data:   make([]byte, 4),
		})
		if err != nil {
			return nil, err
		}
		for _, reply := range replies {
			name, _, _ := strings.Cut(string(reply.Data[8:]), "\x00") // the table's name is the first attribute
			lines = append(lines, fmt.Sprintf("nft %s %d %s", name, what, hex.EncodeToString(reply.Data[4:])))
		}
	}
	return lines, nil
}

// matching returns the lines of a state that match a pattern.
func matching(state, pattern string) string {
	var kept strings.Builder
	for line := range strings.Lines(state) {
		if regexp.MustCompile(pattern).MatchString(line) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// hostEnd returns the name of the node's end of the only veth that the plugin made there.
func (n *labNode) hostEnd(t *testing.T) string {
	t.Helper()
	return regexp.MustCompile(`veth[0-9a-f]{8}`).FindString(state(t, n.ns))
}

// withoutHandles removes the bytes of nftables, in which each new rule has a new number.
func withoutHandles(state string) string {
	return regexp.MustCompile(`(?m)^(nft \S+ \d+) .*$`).ReplaceAllString(state, "$1")
}

func sortLines(text string) string {
	lines := strings.SplitAfter(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}
