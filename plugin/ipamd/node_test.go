package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// nodeRules returns the priorities of the rules in the calling thread's namespace.
func nodeRules(t *testing.T) []int {
	t.Helper()
	rules, err := netlinksafe.RuleList(netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, r := range rules {
		all = append(all, r.Priority)
	}
	return all
}

// On a node whose kernel ipamd sets up, an ENI is set up before a pod gets one of its addresses. An ENI whose link
// appears late is used from then on.
func TestDaemon_kernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread, and its namespace, end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	link := func(name string, device byte) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = name, net.HardwareAddr{2, 0, 0, 0, 0, 0x10 + device}
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer-" + name})
	}
	lo, err := netlink.LinkByName("lo")
	if err := errors.Join(err, netlink.LinkSetUp(lo), link("eth0", 0), os.WriteFile("/proc/sys/net/ipv4/ip_forward",
		[]byte("1"), 0o644)); err != nil {
		t.Fatal(err)
	}
	l := newLab(t) // its metadata service listens in this namespace
	l.service.Set(inventory("10.0.0.16/31", "10.0.1.16/31"))
	p := l.start(childDaemon, slices.DeleteFunc(l.args("--reconcile", "100ms", "--veth-prefix", "pod"),
		func(s string) bool {
			return s == "--kernel=false"
		})...)
	if a, b := l.assign(p, "a"), l.assign(p, "b"); a != "10.0.0.16" || b != "10.0.0.17" {
		t.Errorf("got %s and %s, want both from the ENI that is there", a, b)
	}
	if diff := cmp.Diff([]int{0, 1024, 1025, 32766, 32767}, nodeRules(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text, err := l.get("/v1/status"); !strings.Contains(text, `"reason": "no link has MAC 02:00:00:00:00:11"`) {
		t.Errorf("got %s, %v, want why the other ENI is not used", text, err)
	}
	if err := link("eth1", 1); err != nil {
		t.Fatal(err)
	}
	l.eventually("the other ENI is used", func() bool { return l.assign(p, "c") == "10.0.1.16" })
	want := []int{0, 1024, 1025, 32765, 32766, 32767}
	if diff := cmp.Diff(want, nodeRules(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	conn := l.connect(p)
	defer conn.Close()
	reply, err := rpc.NewCNIBackendClient(conn).DelNetwork(t.Context(), del("c"))
	if err != nil || reply.IPAllocationMetadata[0].RouteTableId != 2 ||
		reply.IPAllocationMetadata[0].DeviceNumber != 1 {
		t.Errorf("got %v, %v, want table 2 of device 1", reply, err)
	}
	// Pods keep working while no daemon runs.
	if status := p.end(t); status != 0 {
		t.Errorf("got exit status %d, want 0: %s", status, p.output)
	}
	if diff := cmp.Diff(want, nodeRules(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// With EC2 the number of addresses grows with the number of pods.
func TestDaemon_ec2(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key-of-the-test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
	l := newLab(t)
	inv := inventory("10.0.0.0/24")
	inv.ENIs[0].Prefixes = nil
	l.service.Set(inv)
	var mu sync.Mutex
	ec2 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "text/xml")
		switch r.FormValue("Action") {
		case "DescribeInstanceTypes":
			http.ServeFile(w, r, "internal/cloud/testdata/DescribeInstanceTypes.xml")
		case "DescribeNetworkInterfaces":
			fmt.Fprint(w, "<DescribeNetworkInterfacesResponse><networkInterfaceSet><item><networkInterfaceId>eni-0"+
				"</networkInterfaceId></item></networkInterfaceSet></DescribeNetworkInterfacesResponse>")
		case "AssignPrivateIpAddresses":
			next := netip.AddrFrom4([4]byte{10, 0, 0, byte(20 + len(inv.ENIs[0].Secondary))})
			inv.ENIs[0].Secondary = append(slices.Clone(inv.ENIs[0].Secondary), next)
			l.service.Set(inv)
			fmt.Fprintf(w,
				"<AssignPrivateIpAddressesResponse><assignedPrivateIpAddressesSet><item><privateIpAddress>%s</privateIpAddress></item></assignedPrivateIpAddressesSet></AssignPrivateIpAddressesResponse>", next)
		default:
			http.Error(w, "", http.StatusBadRequest)
		}
	}))
	defer ec2.Close()
	p := l.start(childDaemon, l.args("--reconcile", "100ms", "--cloud", "ec2", "--ec2-endpoint", ec2.URL,
		"--warm-ip-target", "1")...)
	for n := range 3 {
		want := fmt.Sprintf("10.0.0.%d", 20+n)
		l.eventually("pods get addresses: "+want, func() bool { return l.assign(p, fmt.Sprint(n)) == want })
	}
	// A fourth pod would need another ENI, which this EC2 refuses. The other pods are still served.
	if got := l.assign(p, "more"); !strings.Contains(got, "no free address: 3 of 3 assigned") {
		t.Errorf("got %s, want that there is none", got)
	}
	l.eventually("the status tells why", func() bool {
		text, err := l.get("/v1/status")
		return err == nil && strings.Contains(text, `"the number of addresses was not adjusted: EC2: create ENI: `)
	})
	if got := l.assign(p, "0"); got != "10.0.0.20" {
		t.Errorf("got %s, want 10.0.0.20", got)
	}
}

// Pods get no address of an ENI that EC2 describes as somebody else's; /v1/enis says why.
func TestDaemon_describe(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key-of-the-test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
	l := newLab(t)
	l.service.Set(inventory("10.0.0.16/31", "10.0.1.16/31"))
	ec2 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		http.ServeFile(w, r, "internal/cloud/testdata/DescribeNetworkInterfaces.machine.xml")
	}))
	defer ec2.Close()
	p := l.start(childDaemon, l.args("--cloud", "describe", "--ec2-endpoint", ec2.URL)...)
	for n, want := range []string{"10.0.0.16", "10.0.0.17"} {
		if got := l.assign(p, fmt.Sprint(n)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := l.assign(p, "more"); !strings.Contains(got, "no free address: 2 of 2 assigned") {
		t.Errorf("got %s, want that there is none", got)
	}
	const want = `"unmanaged": "the ENI is tagged node.k8s.amazonaws.com/no_manage"`
	if text, err := l.get("/v1/enis"); err != nil || !strings.Contains(text, want) {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
	if !strings.Contains(p.output.String(), `msg="ENI is left alone" eni=eni-1`) {
		t.Errorf("got log %s, want it to tell", p.output)
	}
}
