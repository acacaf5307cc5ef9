package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// state returns all that the plugin may change on a node, a line for each thing, as the ip command prints it.
func (l *lab) state() string {
	l.t.Helper()
	var lines []string
	l.inNode(func() (err error) {
		lines, err = kernelState()
		return err
	})
	err := filepath.WalkDir("/run/cni", func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			lines = append(lines, "file "+path)
		}
		if filepath.Base(path) == ".index" { // package record tests its content
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.Join(lines, "\n") + "\n"
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
	names := map[int]string{}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
		lines = append(lines, describe(link))
		permanent, err := n.Permanent(link.Attrs().Index)
		if err != nil {
			return nil, err
		}
		for ip, mac := range permanent {
			lines = append(lines, fmt.Sprintf("neigh %s dev %s lladdr %s", ip, link.Attrs().Name, mac))
		}
	}
	routes, err := n.MainRoutes()
	if err != nil {
		return nil, err
	}
	for _, route := range routes {
		dst, _ := kernel.Destination(route)
		if dst.Addr().IsLinkLocalUnicast() {
			continue
		}
		line := fmt.Sprintf("route %s dev %s", dst, names[route.LinkIndex])
		if route.Gw != nil {
			line += " via " + route.Gw.String()
		}
		if route.Src != nil {
			line += " src " + route.Src.String()
		}
		if route.Priority != 0 && route.Priority != 1024 && route.Priority != 256 && route.Priority != metricMaster {
			line += fmt.Sprintf(" metric %d", route.Priority)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines, nil
}

func describe(link netlink.Link) string {
	attrs := link.Attrs()
	line := fmt.Sprintf("link %s %s mtu %d", attrs.Name, link.Type(), attrs.MTU)
	if macvlan, ok := link.(*netlink.Macvlan); ok {
		line += fmt.Sprintf(" mode %s address %s", modeName(macvlan.Mode), attrs.HardwareAddr)
	}
	if attrs.RawFlags&unix.IFF_UP != 0 {
		line += " up"
	}
	return line
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

// dropLines returns a state without the lines that begin with one of the words.
func dropLines(state string, words []string) string {
	var kept strings.Builder
	for line := range strings.Lines(state) {
		if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(line, w) }) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func sorted(s string) []string {
	return slices.Sorted(strings.Lines(s))
}
