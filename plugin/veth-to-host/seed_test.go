package main

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// What "ip" shows in a pod and on its node with the shipped conflist, as the article shows it that this plugin follows:
// 10.10.20.152 is the node, 10.10.20.50 the pod. The source on the node's host route is this plugin's.
const (
	seedPod = `default via 10.10.20.152 dev veth0
10.10.20.0/24 dev eth0 scope link src 10.10.20.50
10.10.20.152 dev veth0 scope link
`
	seedNodeRoute = "10.10.20.50 dev vethX scope link src 10.10.20.152\n"
	seedNodeRule  = "1024:	from all iif vethX lookup N\n"
	seedTable     = "default via 10.10.20.50 dev vethX\n"
)

// The shipped conflist runs unchanged through libcni.
func TestSeed(t *testing.T) {
	l := newLab(t)
	list, err := libcni.ConfListFromFile("net.d/10-cnichain.conflist")
	if err != nil {
		t.Fatal(err)
	}
	dir := plugintest.BinDir()
	cni := libcni.NewCNIConfigWithCacheDir([]string{dir}, t.TempDir(), nil)
	pod := newNamespace(t, rpFilter, "0")
	before := l.node1.state(t)
	rt := &libcni.RuntimeConf{ContainerID: "redis-predixy", NetNS: pod.Path(), IfName: "eth0"}
	l.node1.in(t, func() error {
		_, err := cni.AddNetworkList(context.Background(), list, rt)
		return err
	})
	veth := l.node1.hostEnd(t)
	table := regexp.MustCompile(`1024: from all iif ` + veth + ` lookup (\d+)`).FindStringSubmatch(rulesText(t,
		l.node1.ns))
	if table == nil {
		t.Fatalf("rule 1024 is missing in:\n%s", rulesText(t, l.node1.ns))
	}
	number := 0
	if _, err := fmt.Sscan(table[1], &number); err != nil {
		t.Fatal(err)
	}
	podText := routesText(t, pod, 0)
	t.Logf("ip route show, in the pod:\n%s", podText)
	nodeText := strings.ReplaceAll(matching(routesText(t, l.node1.ns, 0), `dev veth`), veth, "vethX")
	ruleText := strings.ReplaceAll(matching(rulesText(t, l.node1.ns), `^1024:`), veth, "vethX")
	ruleText = strings.ReplaceAll(strings.Replace(ruleText, ": ", ":\t", 1), table[1], "N")
	tableText := strings.ReplaceAll(routesText(t, l.node1.ns, number), veth, "vethX")
	t.Logf("on the node:\n%s%s%s", nodeText, ruleText, tableText)
	if diff := cmp.Diff([]string{seedPod, seedNodeRoute, seedNodeRule, seedTable}, []string{
		podText, nodeText, ruleText, tableText,
	}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l.node1.in(t, func() error { return cni.DelNetworkList(context.Background(), list, rt) })
	if diff := cmp.Diff(before, l.node1.state(t)); diff != "" {
		t.Errorf("node after DEL (-want +got):\n%s", diff)
	}
}

// routesText returns the IPv4 routes of a table as busybox's ip prints them, as in the article.
func routesText(t *testing.T, n ns.NetNS, table int) string {
	t.Helper()
	var b strings.Builder
	in(t, n, func() error {
		host, err := kernel.Current()
		if err != nil {
			return err
		}
		defer host.Close()
		all, err := readRoutes(host)
		if err != nil {
			return err
		}
		for _, listed := range all.listed {
			r, ok := routeOf(listed, all.names[listed.LinkIndex])
			if !ok || r.Table != table || r.isIPv6() {
				continue
			}
			text := strings.TrimSuffix(strings.Replace(route{Dst: r.Dst, Via: r.Via, Link: r.Link}.String(), "/32", "",
				1), "\n")
			if listed.Scope == unix.RT_SCOPE_LINK {
				text += " scope link"
			}
			if r.Src != (netip.Addr{}) {
				text += " src " + r.Src.String()
			}
			if r.OnLink || r.Metric != 0 {
				text += fmt.Sprintf(" onlink %t metric %d", r.OnLink, r.Metric)
			}
			b.WriteString(text + "\n")
		}
		return nil
	})
	return b.String()
}

func rulesText(t *testing.T, n ns.NetNS) string {
	t.Helper()
	var b strings.Builder
	in(t, n, func() error {
		host, err := kernel.Current()
		if err != nil {
			return err
		}
		defer host.Close()
		rules, err := host.Rules()
		for _, rule := range rules {
			r := kernel.Rule{
				IPv6: rule.Family == unix.AF_INET6, Priority: rule.Priority, IifName: rule.IifName, Table: rule.Table,
			}
			fmt.Fprintln(&b, r)
		}
		return err
	})
	return b.String()
}
