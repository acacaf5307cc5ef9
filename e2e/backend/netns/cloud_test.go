package netns_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/target"
)

const cloudConflist = `{"cniVersion": "1.1.0", "name": "cloud", "plugins": [{"type": "routed-eni"}]}`

// inCloud returns a request for nodes with three ENIs each.
func inCloud(tb testing.TB, nodes int, change func(*target.Cloud)) cluster.Request {
	tb.Helper()
	req := request(tb, cloudConflist, nodes)
	req.Target = &target.Target{Cloud: &target.Cloud{ENIs: 3, Addresses: 2, Prefixes: 1}}
	if change != nil {
		change(req.Target.Cloud)
	}
	return req
}

// setUp configures a secondary ENI as a daemon does.
func setUp(tb testing.TB, node *cluster.Node, i metadata.Instance, eni metadata.ENI) {
	tb.Helper()
	do(tb, node.Agent, "eni", eniConfig{
		Name: eni.Name, Address: eni.Address, Gateway: i.Subnet.Addr().Next(), Table: eni.Device + 1,
	})
}

// attachTo makes a pod with an address. Its packets use the routing table of an ENI; 0 means the main table, and
// thereby the primary ENI.
func attachTo(tb testing.TB, node *cluster.Node, name string, address netip.Addr, table int) *cluster.Place {
	tb.Helper()
	path, err := node.Agent.CreateNamespace(ctx(tb), name)
	check(tb, err)
	do(tb, node.Agent, "pod", podConfig{Netns: path, HostEnd: "eni" + name, Address: address, Table: table})
	return &cluster.Place{
		Name: "pod/" + name, Agent: node.Agent, Netns: path, Interfaces: map[string][]netip.Addr{"uplink": {address}},
	}
}

// silent checks that an address does not answer pings.
func silent(tb testing.TB, from *cluster.Place, address netip.Addr) {
	tb.Helper()
	result, err := from.Agent.Probe(ctx(tb), from.Netns, probe.Spec{
		Protocol: probe.ICMP, To: address.String(), Within: 300 * time.Millisecond,
	})
	check(tb, err)
	if result.OK {
		tb.Errorf("%s to %s: got an answer, want none", from.Name, address)
	}
}

// reach checks that two places reach each other.
func reach(tb testing.TB, one, two *cluster.Place) {
	tb.Helper()
	for _, way := range [][2]*cluster.Place{{one, two}, {two, one}} {
		address, err := way[1].Address("uplink", true)
		check(tb, err)
		ask(tb, way[0], way[1].Agent, way[1].Netns, address.String())
	}
}

func TestCloud_pods_reach_everybody_through_their_own_ENIs(t *testing.T) {
	c := start(t, inCloud(t, 2, nil))
	a, b := c.Nodes()[0], c.Nodes()[1]
	reach(t, &a.Place, &b.Place)
	reach(t, &a.Place, c.Hosts()["lan"])
	reach(t, &a.Place, c.Hosts()["external"])

	var pods []*cluster.Place
	for _, node := range c.Nodes() {
		instance := c.Cloud().Instance(node)
		for _, eni := range instance.ENIs {
			table := 0
			if eni.Device > 0 {
				setUp(t, node, instance, eni)
				table = eni.Device + 1
			}
			// One pod has a single address, the other one an address of the prefix.
			name := fmt.Sprintf("%s%d", strings.TrimPrefix(node.Name, "node/"), eni.Device)
			pods = append(pods, attachTo(t, node, name, eni.Secondary[1], table), attachTo(t, node, name+"p",
				eni.Prefixes[0].Addr().Next(), table))
		}
	}
	for i, pod := range pods {
		// On each node, and between the two.
		reach(t, pod, pods[(i+1)%len(pods)])
		reach(t, pod, pods[(i+len(pods)/2)%len(pods)])
		reach(t, pod, &a.Place)
		reach(t, pod, &b.Place)
		for _, host := range []string{"lan", "external"} {
			reach(t, pod, c.Hosts()[host])
		}
		ask(t, pod, c.Hosts()["router"].Agent, c.Hosts()["router"].Netns, "10.0.0.1")
	}
}

func TestCloud_drops_what_an_ENI_sends_with_another_address(t *testing.T) {
	c := start(t, inCloud(t, 2, nil))
	a, b := c.Nodes()[0], c.Nodes()[1]
	instance := c.Cloud().Instance(a)
	setUp(t, a, instance, instance.ENIs[1])
	setUp(t, a, instance, instance.ENIs[2])
	far, err := b.Address("uplink", true)
	check(t, err)
	outside, err := c.Hosts()["external"].Address("uplink", true)
	check(t, err)
	own := instance.ENIs[1].Secondary
	for _, pod := range []*cluster.Place{
		attachTo(t, a, "primary", own[0], 0),
		attachTo(t, a, "other", own[1], instance.ENIs[2].Device+1),
		attachTo(t, a, "nobodys", netip.MustParseAddr("10.0.99.99"), instance.ENIs[1].Device+1),
		attachTo(t, a, "foreign", netip.MustParseAddr("192.168.7.7"), 0),
	} {
		silent(t, pod, far)
		silent(t, pod, outside)
		// Packets on the pod's own node do not pass the cloud.
		near, err := a.Address("uplink", true)
		check(t, err)
		ask(t, pod, a.Agent, "", near.String())
	}
}

func TestCloud_external_SNAT(t *testing.T) {
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			c := start(t, inCloud(t, 1, func(cloud *target.Cloud) { cloud.ExternalSNAT = on }))
			node, far, router := c.Nodes()[0], c.Hosts()["external"], c.Hosts()["router"]
			pod := attachTo(t, node, "pod", c.Cloud().Instance(node).ENIs[0].Secondary[0], 0)
			check(t, far.Agent.Listen(ctx(t), far.Netns, probe.ListenSpec{Protocol: probe.TCP, Port: 80}))
			address, err := far.Address("uplink", true)
			check(t, err)
			result, err := pod.Agent.Probe(ctx(t), pod.Netns, probe.Spec{
				Protocol: probe.TCP, To: address.String(), Port: 80,
			})
			check(t, err)
			want, err := pod.Address("uplink", true)
			check(t, err)
			if on {
				want, err = router.Address("external", true)
				check(t, err)
			}
			if result.PeerSeen != want.String() {
				t.Errorf("got %q as the source, want %s: %s", result.PeerSeen, want, result.Error)
			}
		})
	}
}

func TestCloud_metadata(t *testing.T) {
	for version, requests := range map[string][]struct {
		token bool
		want  string
	}{
		target.MetadataV1: {{false, "i-00000000000000001"}},
		target.MetadataV2: {{true, "i-00000000000000001"}, {false, "401 Unauthorized"}},
	} {
		t.Run(version, func(t *testing.T) {
			c := start(t, inCloud(t, 1, func(cloud *target.Cloud) { cloud.Metadata = version }))
			for _, r := range requests {
				if got := do(t, c.Nodes()[0].Agent, "metadata", metadataRequest{
					"instance-id", r.token,
				}); got != r.want {
					t.Errorf("token %t: got %q, want %q", r.token, got, r.want)
				}
			}
		})
	}
}

// links returns the ENIs of a node, each with its MAC, state and IPv4 addresses.
func links(tb testing.TB, node *cluster.Node) []string {
	tb.Helper()
	all, err := node.Agent.Links(ctx(tb), "")
	check(tb, err)
	var text []string
	for _, l := range all {
		if !strings.HasPrefix(l.Name, "eth") {
			continue
		}
		var addresses []string
		for _, a := range l.Addresses {
			if !strings.Contains(a, ":") {
				addresses = append(addresses, a)
			}
		}
		text = append(text, strings.TrimSpace(fmt.Sprintf("%s %s up=%t %s", l.Name, l.MAC, l.Up, strings.Join(addresses,
			" "))))
	}
	slices.Sort(text)
	return text
}

func TestCloud_changes_while_it_runs(t *testing.T) {
	c := start(t, inCloud(t, 2, func(cloud *target.Cloud) { cloud.ENIs, cloud.Metadata = 2, target.MetadataV1 }))
	node, cloud, lan := c.Nodes()[0], c.Cloud(), c.Hosts()["lan"]
	macs := func() string {
		return strings.Join(strings.Fields(do(t, node.Agent, "metadata", metadataRequest{
			Path: "network/interfaces/macs/",
		})), " ")
	}
	before := cloud.Instance(node)
	first := []string{"eth0 " + before.ENIs[0].MAC + " up=true 10.0.0.2/17", "eth1 " + before.ENIs[1].MAC + " up=false"}
	if diff := cmp.Diff(first, links(t, node)); diff != "" {
		t.Fatalf("links (-want +got):\n%s", diff)
	}

	eni, err := cloud.NewENI(node)
	check(t, err)
	more := cloud.Instance(node)
	more.ENIs = append(more.ENIs, eni)
	check(t, cloud.Set(ctx(t), node, more))
	if diff := cmp.Diff(append(first, "eth2 "+eni.MAC+" up=false"), links(t, node)); diff != "" {
		t.Errorf("links with another ENI (-want +got):\n%s", diff)
	}
	if got, want := macs(), fmt.Sprintf("%s/ %s/ %s/", before.ENIs[0].MAC, before.ENIs[1].MAC, eni.MAC); got != want {
		t.Errorf("got the MACs %s, want %s", got, want)
	}
	setUp(t, node, more, eni)
	reach(t, attachTo(t, node, "on-new", eni.Secondary[0], eni.Device+1), lan)

	address, err := cloud.NewAddress(node)
	check(t, err)
	late := attachTo(t, node, "late", address, eni.Device+1)
	lanAddress, err := lan.Address("uplink", true)
	check(t, err)
	silent(t, late, lanAddress)
	more.ENIs[2].Secondary = append(more.ENIs[2].Secondary, address)
	check(t, cloud.Set(ctx(t), node, more))
	reach(t, late, lan)
	// The address moves to another ENI, which the pod's packets do not use.
	more.ENIs[2].Secondary = more.ENIs[2].Secondary[:2]
	more.ENIs[0].Secondary = append(more.ENIs[0].Secondary, address)
	check(t, cloud.Set(ctx(t), node, more))
	silent(t, late, lanAddress)

	check(t, cloud.Set(ctx(t), node, before))
	if diff := cmp.Diff(first, links(t, node)); diff != "" {
		t.Errorf("links as before (-want +got):\n%s", diff)
	}
	if got, want := macs(), fmt.Sprintf("%s/ %s/", before.ENIs[0].MAC, before.ENIs[1].MAC); got != want {
		t.Errorf("got the MACs %s, want %s", got, want)
	}
	before.ENIs = before.ENIs[1:]
	if err := cloud.Set(ctx(t), node, before); err == nil ||
		err.Error() != "node/a: the primary ENI cannot be detached" {
		t.Errorf("got %v, want the primary ENI to stay", err)
	}
}

func TestCloud_node_reboots(t *testing.T) {
	c := start(t, inCloud(t, 2, nil))
	node := c.Nodes()[0]
	before, boot := links(t, node), output(t, node.Agent, "cat /proc/sys/kernel/random/boot_id")
	instance := c.Cloud().Instance(node)
	setUp(t, node, instance, instance.ENIs[1])
	check(t, c.Reboot(ctx(t), node))
	if diff := cmp.Diff(before, links(t, node)); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	if again := output(t, node.Agent, "cat /proc/sys/kernel/random/boot_id"); again == boot || len(again) != len(boot) {
		t.Errorf("got the boot ID %q, want another than before, %q", again, boot)
	}
	setUp(t, node, instance, instance.ENIs[1])
	reach(t, attachTo(t, node, "pod", instance.ENIs[1].Secondary[0], 2), c.Hosts()["external"])
}

func TestCloud_gives_a_node_as_many_addresses_as_its_scenario_says(t *testing.T) {
	req := inCloud(t, 2, nil)
	req.Nodes[0].Addresses, req.Nodes[1].ENIs, req.Alone = 4, 5, true
	c := start(t, req)
	for i, want := range []int{4, 5 * (2 + 16)} {
		if got := c.Nodes()[i].PoolSize; got != want {
			t.Errorf("%s: got room for %d pods, want %d", c.Nodes()[i].Name, got, want)
		}
	}
	if got, want := len(c.Cloud().Instance(c.Nodes()[0]).ENIs[0].Secondary), 2; got != want {
		t.Errorf("got %d addresses on the first of three ENIs, want %d", got, want)
	}
	reach(t, &c.Nodes()[0].Place, &c.Nodes()[1].Place)
}

// ENIs that are not for pods are in use by somebody else, also after a reboot.
func TestCloud_unmanaged(t *testing.T) {
	req := inCloud(t, 1, nil)
	req.Nodes[0].Unmanaged = metadata.UnmanagedKinds()
	c := start(t, req)
	node, lan := c.Nodes()[0], c.Hosts()["lan"]
	const want = "eth0 eth1 eth2 eth4 eth5" // the EFA-only one has no link
	for range 2 {
		for _, kind := range []string{metadata.Tagged, metadata.Trunk, metadata.SecondCard} {
			if got := len(node.Interfaces[kind]); got != 3 {
				t.Errorf("%s: got %d addresses, want 3", kind, got)
			}
			for _, address := range node.Interfaces[kind] {
				reach(t, lan, &cluster.Place{
					Name: kind, Agent: node.Agent, Interfaces: map[string][]netip.Addr{"uplink": {address}},
				})
			}
		}
		var names []string
		for _, link := range links(t, node) {
			names = append(names, strings.Fields(link)[0])
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("got links %s, want %s", got, want)
		}
		check(t, c.Reboot(ctx(t), node))
	}
	cloud := c.Cloud()
	eni, err := cloud.NewENI(node)
	check(t, err)
	if eni.Device != 6 {
		t.Errorf("got device %d for another ENI, want 6", eni.Device)
	}
	more := cloud.Instance(node)
	more.ENIs = append(more.ENIs, eni)
	check(t, cloud.Set(ctx(t), node, more))
}

func TestCloud_that_cannot_be(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*cluster.Request)
		wantErr string
	}{
		"too small": {
			func(r *cluster.Request) { r.Target.Cloud.VPC, r.Target.Cloud.Addresses = "10.1.0.0/24", 250 },
			"vpc 10.1.0.0/24 is too small for so many ENIs and addresses; take a larger one or fewer of them",
		},
		"uplink is a bridge": {func(r *cluster.Request) { r.UplinkKind = "bridge" }, `uplink kind "bridge": in a cloud want veth`},
		"uplink is eth1":     {func(r *cluster.Request) { r.Uplink = "eth1" }, `uplink "eth1": in a cloud want eth0, or a name that no other ENI can have`},
	} {
		t.Run(name, func(t *testing.T) {
			req := inCloud(t, 1, nil)
			tt.change(&req)
			c, err := backend().Start(ctx(t), req)
			if err == nil {
				check(t, c.Close())
				t.Fatal("got a cluster, want an error")
			}
			if err.Error() != tt.wantErr {
				t.Errorf("got the error %q, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestTarget_daemon_runs_on_each_node(t *testing.T) {
	req := request(t, macvlanConflist, 2)
	req.Target = &target.Target{
		Setup: [][]string{{"mkdir", "/run/d"}, {"sh", "-c", "echo $HOSTNAME >/run/d/host"}},
		Daemon: &target.Daemon{
			Name: "d", Command: []string{"sh", "-c", "cat /run/d/host; touch $READY; while :; do sleep 0.1; done"},
			Environment: map[string]string{"READY": "/run/d/ready"}, Ready: target.Ready{File: "/run/d/ready"},
		},
	}
	c := start(t, req)
	check(t, c.Reboot(ctx(t), c.Nodes()[0]))
	for i, want := range []agent.DaemonState{{Running: true, Output: "a\n"}, {Running: true, Output: "b\n"}} {
		got, err := c.Nodes()[i].Agent.Daemon(ctx(t), "d")
		check(t, err)
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if c.Cloud() != nil {
		t.Error("got a cloud, want none")
	}
}

func TestTarget_that_does_not_start(t *testing.T) {
	for name, tt := range map[string]struct {
		target  target.Target
		wantErr string
	}{
		"setup fails": {target.Target{Setup: [][]string{{"sh", "-c", "echo why; exit 4"}}}, "node/a: setup: sh -c echo why; exit 4: exit status 4: why"},
		"no such daemon": {
			target.Target{Daemon: &target.Daemon{Name: "d", Command: []string{"no-such-daemon"}, Ready: target.Ready{File: "/run/d"}}},
			`node/a: daemon d: exec: "no-such-daemon": executable file not found in $PATH, nor in /opt/cni/bin`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(t, macvlanConflist, 1)
			req.Target = &tt.target
			c, err := backend().Start(ctx(t), req)
			if err == nil {
				check(t, c.Close())
				t.Fatal("got a cluster, want an error")
			}
			if err.Error() != tt.wantErr {
				t.Errorf("got the error %q, want %q", err, tt.wantErr)
			}
		})
	}
}
