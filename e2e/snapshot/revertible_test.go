package snapshot

import (
	"slices"
	"testing"
	"testing/fstest"

	"github.com/vishvananda/netlink"
)

func TestRevertible(t *testing.T) {
	const (
		remake   = "an item does not contain everything that is needed to make it again"
		settings = "more than its master, mtu, address, group, qlen, alias and flags has changed"
		up       = "<BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP group 0 qlen 1000 link/ether " +
			"02:00:00:00:00:01 veth"
		down = "<BROADCAST,MULTICAST> mtu 1500 state DOWN group 0 qlen 1000 link/ether 02:00:00:00:00:01 veth"
	)
	for _, tt := range []struct {
		name   string
		change Change
		want   string
	}{
		{"link", Change{Op: Added, Item: Item{Kind: Link, Name: "eth0", Text: up}}, ""},
		{"link removed", Change{Op: Removed, Item: Item{Kind: Link, Name: "eth0", Text: up}}, remake},
		{"link down", Change{Op: Changed, Item: Item{Kind: Link, Name: "eth0", Text: down}, Before: up}, ""},
		{"link up", Change{Op: Changed, Item: Item{Kind: Link, Name: "eth0", Text: up}, Before: down}, ""},
		{"link enslaved", Change{Op: Changed, Item: Item{
			Kind: Link, Name: "eth0", Text: "<UP> mtu 1500 master cni0 promiscuity 1",
		}, Before: "<> mtu 1500"}, ""},
		{"link of another kind", Change{Op: Changed, Item: Item{Kind: Link, Name: "eth0", Text: up + " altname e"}, Before: down}, settings},
		{
			"link with more on top",
			Change{Op: Changed, Item: Item{Kind: Link, Name: "eth0", Text: up + " promiscuity 1"}, Before: up},
			"none of its settings has changed: it follows other links",
		},
		{"sysctl", Change{Op: Changed, Item: Item{Kind: Sysctl, Name: "net.ipv4.ip_forward", Text: "1"}, Before: "0"}, ""},
		{"sysctl of a link", Change{
			Op: Added, Item: Item{Kind: Sysctl, Name: "net.ipv4.conf.eth0.rp_filter", Text: "1"},
		}, "a sysctl comes and goes with a link"},
		{
			"kernel's qdisc",
			Change{Op: Added, Item: Item{Kind: Qdisc, Name: "dev eth0 parent 1:1", Text: "fq_codel"}},
			"the kernel gives a link a qdisc of its own",
		},
		{"qdisc for the kernel's", Change{Op: Changed, Item: Item{Kind: Qdisc, Name: "dev eth0 root", Text: "htb handle 1:0"}, Before: "noqueue"}, ""},
		{
			"qdisc for another",
			Change{Op: Changed, Item: Item{Kind: Qdisc, Name: "dev eth0 root", Text: "htb handle 1:0"}, Before: "tbf handle 1:0"},
			"a text does not contain everything that is needed to change a qdisc back",
		},
		{"end of an interval", Change{
			Op: Added, Item: Item{Kind: Nftables, Name: "element ip t s", Text: "10.0.1.0 end"},
		}, "the end of an interval goes with its start"},
		{"policy", Change{Op: Added, Item: Item{Kind: Iptables, Name: "ip filter chain INPUT", Text: "DROP"}}, "a legacy table stays as long as its namespace"},
		{"chain", Change{Op: Added, Item: Item{Kind: Iptables, Name: "ip filter chain CNI", Text: "-"}}, ""},
		{"process", Change{Op: Added, Item: Item{Kind: Process, Name: "dhcp daemon"}}, "processes of one command line look alike, and another's must not end"},
		{"namespace", Change{Op: Added, Item: Item{Scope: "pod", Kind: Namespace, Name: "network"}}, "a namespace belongs to the runtime that made it"},
		{"whiteout", Change{Op: Added, Item: Item{Kind: File, Name: "/etc/hosts", Text: "deleted"}}, "it stands for a file that was removed"},
		{"file changed", Change{Op: Changed, Item: Item{Kind: File, Name: "/etc/hosts"}}, "a text does not contain everything that is needed to change a file back"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := errText(Revertible(tt.change)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestRevertible_objects compares what the text of a change says with the functions of its object.
func TestRevertible_objects(t *testing.T) {
	isolatePort(t)
	for _, c := range tableChanges(t) {
		check(t, c.change(t))
	}
	addFilters(t)
	addClasses(t)
	check(t, netlink.NeighAdd(neighbours(t)[0]))
	intervals(t)
	filter(t, 1)
	(&xtBuilder{xtFamily: xtFamilies[0]}).fill(t)
	opts := Options{Files: []FileTree{{Name: "/testdata", FS: fstest.MapFS{"a": {Data: []byte("a")}}}}}
	n, err := openNetwork()
	check(t, err)
	defer n.handle.Close()
	objects, err := n.read(t.Context(), opts)
	check(t, err)
	rest, err := readNode(t.Context(), opts)
	check(t, err)
	seen, removable := map[string]bool{}, map[string]bool{}
	for _, o := range append(objects, rest...) {
		seen[o.Kind] = true
		removable[o.Kind] = removable[o.Kind] || o.remove != nil
		if err := Revertible(Change{Op: Added, Item: o.Item}); (err == nil) != (o.remove != nil) {
			t.Errorf("%s %s: got error %v, want one where it cannot be removed: %t", o.Kind, line(o.Name, o.Text), err,
				o.remove == nil)
		}
	}
	for _, k := range Kinds() {
		declared := slices.ContainsFunc(lasting(), func(l lastingItem) bool { return l.kind == k.Name })
		switch {
		case !seen[k.Name]:
			t.Errorf("%s: got no item of this kind; make one above", k.Name)
		case !removable[k.Name] && !declared:
			t.Errorf("%s: nothing of this kind can be reverted; give its objects a remove, or say in lasting why "+
				"they stay", k.Name)
		}
	}
}
