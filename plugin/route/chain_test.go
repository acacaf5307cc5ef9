package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// chained is a conflist driven by libcni on a lab's node.
type chained struct {
	l       *lab
	list    *libcni.NetworkConfigList
	cni     *libcni.CNIConfig
	results map[*pod]types.Result
}

func newChained(l *lab, conflist []byte) *chained {
	l.t.Helper()
	for _, dir := range []string{"/var/lib/cni", "/run/cni"} {
		if err := os.RemoveAll(dir); err != nil {
			l.t.Fatal(err)
		}
	}
	list, err := libcni.NetworkConfFromBytes(conflist)
	if err != nil {
		l.t.Fatal(err)
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{plugintest.BinDir()}, l.t.TempDir(), nil)
	return &chained{l: l, list: list, cni: cni, results: map[*pod]types.Result{}}
}

func (c *chained) runtime(p *pod) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: p.id, NetNS: p.ns.Path(), IfName: "eth0"}
}

// onNode runs the plugins in the node's namespace: libcni starts them from the calling thread.
func (c *chained) onNode(do func(ctx context.Context) error) error {
	return c.l.node.Do(func(ns.NetNS) error { return do(context.Background()) })
}

func (c *chained) add(p *pod) error {
	return c.onNode(func(ctx context.Context) error {
		result, err := c.cni.AddNetworkList(ctx, c.list, c.runtime(p))
		c.results[p] = result
		return err
	})
}

func (c *chained) check(p *pod) error {
	return c.onNode(func(ctx context.Context) error { return c.cni.CheckNetworkList(ctx, c.list, c.runtime(p)) })
}

func (c *chained) del(p *pod) error {
	return c.onNode(func(ctx context.Context) error { return c.cni.DelNetworkList(ctx, c.list, c.runtime(p)) })
}

func (c *chained) addresses(p *pod) []string {
	c.l.t.Helper()
	result, err := current.NewResultFromResult(c.results[p])
	if err != nil {
		c.l.t.Fatal(err)
	}
	var ips []string
	for _, ip := range result.IPs {
		ips = append(ips, ip.Address.IP.String())
	}
	return ips
}

// Each shipped conflist, with upstream's macvlan and host-local, from ADD to GC.
func TestConflists(t *testing.T) {
	files, err := filepath.Glob("net.d/*.conflist")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"00-default.conflist":       {"192.168.1.2", "192.168.1.3"},
		"01-default-1.1.0.conflist": {"192.168.1.2", "192.168.1.3"},
		"10-dual-stack.conflist":    {"192.168.1.2", "fd00:192:168::1:2", "192.168.1.3", "fd00:192:168::1:3"},
		"20-ipv6-only.conflist":     {"fd00:192:168::1:2", "fd00:192:168::1:3"},
		"30-large-pool.conflist":    {"192.168.1.2", "192.168.1.3"},
	}
	if len(files) != len(want) {
		t.Errorf("got %v, want %d files", files, len(want))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			l := newLab(t, "192.168.0.5/16", "fd00:192:168::5/64")
			c := newChained(l, raw)
			bare := l.state()
			a, b := &pod{ns: newNamespace(t), id: "a"}, &pod{ns: newNamespace(t), id: "b"}
			for _, p := range []*pod{a, b} {
				if err := errors.Join(c.add(p), c.check(p)); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want[filepath.Base(file)], append(c.addresses(a), c.addresses(b)...)); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
			for i, ip := range c.addresses(a) {
				node := "192.168.0.5"
				if strings.Contains(ip, ":") {
					node = "fd00:192:168::5"
				}
				l.mustReach(l.node, a.ns, ip, node)
				l.mustReach(a.ns, l.node, node, ip)
				l.mustReach(b.ns, a.ns, ip, c.addresses(b)[i])
			}
			if err := errors.Join(c.check(a), c.del(a), c.del(a), c.check(b), c.del(b)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(bare, dropLines(l.state(), []string{"link eno1.host"})); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			err = c.onNode(func(ctx context.Context) error {
				return errors.Join(c.cni.GetStatusNetworkList(ctx, c.list), c.cni.GCNetworkList(ctx, c.list, nil))
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(l.state(), "link eno1.host"); got != "" && !strings.HasPrefix(c.list.CNIVersion, "0.") {
				t.Errorf("after GC: got %s, want no child", got)
			}
		})
	}
}

// Users have the first conflist: it must work with nothing added to it.
func TestConflists_default(t *testing.T) {
	raw, err := os.ReadFile("net.d/00-default.conflist")
	if err != nil {
		t.Fatal(err)
	}
	var compact strings.Builder
	for line := range strings.Lines(string(raw)) {
		compact.WriteString(strings.ReplaceAll(strings.TrimSpace(line), `": `, `":`))
	}
	want := `{"cniVersion":"0.4.0","name":"default","plugins":[{"type":"macvlan","master":"eno1","ipam":{"type":"host-local",` +
		`"ranges":[[{"subnet":"192.168.0.0/16","rangeStart":"192.168.1.2","rangeEnd":"192.168.1.254","gateway":"192.168.0.1"}]],` +
		`"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"route","master":"eno1","bridge":"eno1.host"}]}`
	if diff := cmp.Diff(want, compact.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Plugins that may be in a chain with route.
func TestChainOrder(t *testing.T) {
	macvlan := `{"type":"macvlan","master":"eno1","ipam":{"type":"host-local","ranges":[[{"subnet":"192.168.0.0/16","rangeStart":"192.168.1.2"}]]}}`
	route := `{"type":"route","master":"eno1","bridge":"eno1.host"}`
	for _, tt := range []struct {
		name, plugins, check string
	}{
		{name: "tuning after it", plugins: macvlan + "," + route + `,{"type":"tuning","sysctl":{"net.core.somaxconn":"500"}}`},
		{name: "tuning with mac before it", plugins: macvlan + `,{"type":"tuning","mac":"02:00:00:00:09:09"},` + route},
		{
			name: "tuning with mac after it", plugins: macvlan + "," + route +
				`,{"type":"tuning","mac":"02:00:00:00:09:09"}`,
			check: "neighbour 192.168.1.2 on eno1.host: want 02:00:00:00:09:09, that of link eth0 of the pod, got %s: " +
				"a later plugin has changed the pod's; put it before route",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.nic("eth9", "10.9.0.7/24")
			bare := l.state()
			c := newChained(l, []byte(`{"cniVersion":"1.1.0","name":"chain","plugins":[`+tt.plugins+`]}`))
			a := &pod{ns: newNamespace(t), id: "a"}
			if err := c.add(a); err != nil {
				t.Fatal(err)
			}
			if tt.check == "" {
				l.mustReach(l.node, a.ns, "192.168.1.2", "192.168.0.5")
				l.mustReach(a.ns, l.node, "10.9.0.7", "192.168.1.2")
			}
			if got, want := message(c.check(a)), strings.ReplaceAll(tt.check, "%s", neighbourOnChild(l)); got != want {
				t.Errorf("CHECK: got  %s\nwant %s", got, want)
			}
			if err := c.del(a); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(bare, dropLines(l.state(), []string{"link eno1.host", "file /run/cni"})); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

func neighbourOnChild(l *lab) string {
	for _, line := range sorted(lines(l.state(), "neigh 192.168.1.2 dev eno1.host")) {
		return field(line, 5)
	}
	return ""
}

func message(err error) string {
	var e *types.Error
	if errors.As(err, &e) {
		return e.Msg
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// sbr moves the pod's routes to a table of their own. Upstream's macvlan then fails its own CHECK, so only route's is
// run.
func TestChainOrder_sbr(t *testing.T) {
	l := newLab(t)
	l.nic("eth9", "10.9.0.7/24")
	macvlan := `{"type":"macvlan","master":"eno1","ipam":{"type":"host-local","ranges":[[{"subnet":"192.168.0.0/16","rangeStart":"192.168.1.2","gateway":"192.168.0.1"}]]}}`
	c := newChained(l, []byte(`{"cniVersion":"1.1.0","name":"default","plugins":[`+macvlan+
		`,{"type":"route","master":"eno1","bridge":"eno1.host"},{"type":"sbr"}]}`))
	a := &pod{ns: newNamespace(t), id: "a"}
	if err := c.add(a); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(c.results[a])
	if err != nil {
		t.Fatal(err)
	}
	stdin := conf(map[string]any{"prevResult": json.RawMessage(raw)})
	if _, err := l.run(call{Command: "CHECK", ID: "a", Netns: a.ns.Path(), Stdin: stdin}); err != nil {
		t.Error(err)
	}
	if err := c.del(a); err != nil {
		t.Fatal(err)
	}
}

// A second attachment of the same pod on another network does not change the paths of the first.
func TestSecondInterface(t *testing.T) {
	l := newLab(t)
	l.nic("eth9", "10.9.0.7/24")
	p := l.pod("a", "192.168.1.2/16")
	l.mustAdd(p)
	first := hostRoutesOf(l, p)
	l.macvlan(p, "net1", "eth9", netlink.MACVLAN_MODE_BRIDGE, "10.9.0.9/24")
	prev := map[string]any{
		"cniVersion": "1.1.0", "interfaces": []any{map[string]any{"name": "net1", "sandbox": p.ns.Path()}},
		"ips": []any{map[string]any{"address": "10.9.0.9/24", "interface": 0}},
	}
	second := map[string]any{"name": "second", "master": "eth9", "bridge": nil, "prevResult": prev}
	if _, err := l.run(call{
		Command: "ADD", ID: "a", IfName: "net1", Netns: p.ns.Path(), Stdin: conf(second),
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sorted(first+"route 10.9.0.7/32 dev net1\n"), sorted(hostRoutesOf(l, p))); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
	l.mustReach(l.node, p.ns, "192.168.1.2", "192.168.0.5")
	l.mustReach(l.node, p.ns, "10.9.0.9", "10.9.0.7")
	l.mustReach(p.ns, l.node, "192.168.0.5", "192.168.1.2")
	l.mustReach(p.ns, l.node, "10.9.0.7", "10.9.0.9")
	out, err := l.run(call{Command: "DEL", ID: "a", IfName: "net1", Netns: p.ns.Path(), Stdin: conf(second)})
	if out != "" || err != nil {
		t.Fatal(out, err)
	}
	l.mustReach(l.node, p.ns, "192.168.1.2", "192.168.0.5")
	if diff := cmp.Diff(first, hostRoutesOf(l, p)); diff != "" {
		t.Errorf("pod after DEL of net1 (-want +got):\n%s", diff)
	}
	if got := lines(l.state(), "route 10.9.0.9", "file /run/cni/route/second"); got != "" {
		t.Errorf("got %s, want nothing of net1", got)
	}
}

// Over IPv6 both attachments of one network need the same route to the node, each on its own link.
func TestSecondInterface_sameNetwork(t *testing.T) {
	l := newLab(t, "fd00:20::5/64")
	p := l.pod("a", "fd00:20::101/64")
	l.mustAdd(p)
	first := hostRoutesOf(l, p)
	l.macvlan(p, "net1", "eno1", netlink.MACVLAN_MODE_BRIDGE, "fd00:20::102/64")
	prev := map[string]any{
		"cniVersion": "1.1.0", "interfaces": []any{map[string]any{"name": "net1", "sandbox": p.ns.Path()}},
		"ips": []any{map[string]any{"address": "fd00:20::102/64", "interface": 0}},
	}
	second := call{
		Command: "ADD", ID: "a", IfName: "net1", Netns: p.ns.Path(), Stdin: conf(map[string]any{"prevResult": prev}),
	}
	if _, err := l.run(second); err != nil {
		t.Fatal(err)
	}
	if err := l.check(p, nil); err != nil {
		t.Errorf("CHECK of eth0 beside net1: %v", err)
	}
	second.Command = "DEL"
	if _, err := l.run(second); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, hostRoutesOf(l, p)); diff != "" {
		t.Errorf("pod after DEL of net1 (-want +got):\n%s", diff)
	}
	if err := l.check(p, nil); err != nil {
		t.Errorf("CHECK of eth0 after DEL of net1: %v", err)
	}
}
