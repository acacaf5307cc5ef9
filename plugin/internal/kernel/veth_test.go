package kernel

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Both ends have their final names and addresses from the beginning. If a name is taken at either end, AddVeth returns
// an error and makes nothing.
func TestNamespace_AddVeth(t *testing.T) {
	inNamespace(t, func(t *testing.T, node *Namespace) {
		pod, err := otherNamespace(node)
		if err != nil {
			t.Error(err)
			return
		}
		defer pod.Close()
		v := Veth{Host: "host0", HostMAC: "02:00:00:00:00:01", Pod: "eth0", PodMAC: "02:00:00:00:00:02", MTU: 1400}
		if err := node.AddVeth(pod, v); err != nil {
			t.Error(err)
		}
		got := Veth{Host: "host0", Pod: "eth0"}
		for _, end := range []struct {
			in   *Namespace
			name string
			mac  *string
		}{{node, v.Host, &got.HostMAC}, {pod, v.Pod, &got.PodMAC}} {
			link, err := end.in.LinkByName(end.name)
			if err != nil {
				t.Error(err)
				return
			}
			*end.mac, got.MTU = link.Attrs().HardwareAddr.String(), link.Attrs().MTU
			if IsUp(link) {
				t.Errorf("link %s: want it down", end.name)
			}
		}
		if diff := cmp.Diff(v, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, again := range []Veth{{Host: "host0", Pod: "eth1"}, {Host: "host1", Pod: "eth0"}} {
			again.HostMAC, again.PodMAC, again.MTU = v.HostMAC, v.PodMAC, v.MTU
			want := "link " + again.Host + ", with " + again.Pod + " in the pod: create: file exists"
			if err := node.AddVeth(pod, again); err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		}
		for _, n := range []*Namespace{node, pod} {
			if links, err := n.LinkList(); err != nil || len(links) != 2 {
				t.Errorf("got %d links, %v, want 2", len(links), err)
			}
		}
	})
}
