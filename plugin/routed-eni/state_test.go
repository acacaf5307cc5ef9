package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// state returns all that the plugin may change on the node, a line for each thing, as the ip command prints it.
func (l *lab) state() string {
	l.t.Helper()
	text := stateOf(l.t, l.node)
	err := filepath.WalkDir("/run/cni", func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			text += "file " + path + "\n"
		}
		if filepath.Base(path) == ".index" { // package record tests its content
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return text
}

// stateOf lists links, addresses, permanent neighbours, routes of all tables but local, and rules of a namespace.
func stateOf(t *testing.T, n ns.NetNS) string {
	t.Helper()
	var text string
	plugintest.In(t, n, func() error {
		k, err := kernel.Current()
		if err != nil {
			return err
		}
		defer k.Close()
		for _, list := range []func(*kernel.Namespace) ([]string, error){links, routes, rules} {
			lines, err := list(k)
			if err != nil {
				return err
			}
			for _, line := range lines {
				text += line + "\n"
			}
		}
		return nil
	})
	return text
}

func links(n *kernel.Namespace) ([]string, error) {
	all, err := n.LinkList()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, link := range all {
		attrs := link.Attrs()
		line := fmt.Sprintf("link %s %s mtu %d address %s", attrs.Name, link.Type(), attrs.MTU, attrs.HardwareAddr)
		if kernel.IsUp(link) {
			line += " up"
		}
		if attrs.Alias != "" {
			line += fmt.Sprintf(" alias %q", attrs.Alias)
		}
		lines = append(lines, line)
		permanent, err := n.Permanent(attrs.Index)
		if err != nil {
			return nil, err
		}
		for ip, mac := range permanent {
			lines = append(lines, fmt.Sprintf("neigh %s dev %s lladdr %s PERMANENT", ip, attrs.Name, mac))
		}
		addrs, err := n.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			// The kernel makes its own link-local addresses at any time.
			if !addr.IP.IsLinkLocalUnicast() || addr.IP.String() == "fe80::1" {
				lines = append(lines, fmt.Sprintf("addr %s dev %s", addr.IPNet, attrs.Name))
			}
		}
	}
	slices.Sort(lines)
	return lines, nil
}

func routes(n *kernel.Namespace) ([]string, error) {
	all, err := n.AllRoutes()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, r := range all {
		dst, _ := kernel.Destination(r)
		if r.Table == unix.RT_TABLE_LOCAL || dst.String() == "fe80::/64" || dst.Addr().IsMulticast() {
			continue
		}
		link, err := n.LinkByIndex(r.LinkIndex)
		if err != nil {
			return nil, err
		}
		to := strings.TrimSuffix(dst.String(), fmt.Sprintf("/%d", dst.Addr().BitLen()))
		if dst.Bits() == 0 {
			to = "default"
		}
		line := "route " + to
		if r.Gw != nil {
			line += " via " + r.Gw.String()
		}
		line += " dev " + link.Attrs().Name
		if r.Table != unix.RT_TABLE_MAIN {
			line += " table " + tableName(r.Table)
		}
		if r.Scope == netlink.SCOPE_LINK && r.Protocol != unix.RTPROT_KERNEL {
			line += " scope link"
		}
		if r.Priority != 0 && (dst.Addr().Is4() || r.Priority != ipv6Metric && r.Priority != 256) {
			line += fmt.Sprintf(" metric %d", r.Priority)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines, nil
}

// rules returns in the kernel's order.
func rules(n *kernel.Namespace) ([]string, error) {
	all, err := n.Rules()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, r := range all {
		line := fmt.Sprintf("%d:\t", r.Priority)
		if r.Invert {
			line += "not "
		}
		line += "from " + side(r.Src)
		if r.Dst != nil {
			line += " to " + side(r.Dst)
		}
		line += " lookup " + tableName(r.Table)
		if r.Family == netlink.FAMILY_V6 {
			line = "IPv6 " + line
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func side(n fmt.Stringer) string {
	if text := n.String(); text != "<nil>" {
		return strings.TrimSuffix(strings.TrimSuffix(text, "/32"), "/128")
	}
	return "all"
}

// tableName names tables as the seed's node does.
func tableName(table int) string {
	switch table {
	case unix.RT_TABLE_LOCAL:
		return "local"
	case unix.RT_TABLE_MAIN:
		return "main"
	case unix.RT_TABLE_DEFAULT:
		return "default"
	}
	return fmt.Sprintf("eni-%d", table-1)
}

// lines returns those lines of a state that begin with one of the words.
func lines(state string, words ...string) string {
	var kept strings.Builder
	for line := range strings.Lines(state) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(line, w) }) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// added returns the lines that after has and before has not.
func added(before, after string) string {
	known := map[string]bool{}
	for line := range strings.Lines(before) {
		known[line] = true
	}
	var more strings.Builder
	for line := range strings.Lines(after) {
		if !known[line] {
			more.WriteString(line)
		}
	}
	return more.String()
}
