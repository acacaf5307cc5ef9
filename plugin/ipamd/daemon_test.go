package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/imdstest"
	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// end sends SIGTERM to a daemon and returns its exit status.
func (p *process) end(t *testing.T) int {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Wait()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the daemon does not end")
	}
	return p.ProcessState.ExitCode()
}

// assign requests an address over a new connection.
func (l *lab) assign(p *process, container string) string {
	l.t.Helper()
	conn := l.connect(p)
	defer conn.Close()
	reply, err := rpc.NewCNIBackendClient(conn).AddNetwork(l.t.Context(), add(container))
	if err != nil {
		return err.Error()
	}
	return reply.IPAllocationMetadata[0].IPv4Addr + reply.IPAllocationMetadata[0].IPv6Addr
}

func (l *lab) release(p *process, container string) {
	l.t.Helper()
	conn := l.connect(p)
	defer conn.Close()
	if _, err := rpc.NewCNIBackendClient(conn).DelNetwork(l.t.Context(), del(container)); err != nil {
		l.t.Error(err)
	}
}

// After a restart pods have the same addresses, and released addresses are still cooling.
func TestDaemon_restart(t *testing.T) {
	l := newLab(t)
	l.service.Set(inventory("10.0.0.16/31"))
	p := l.start(childDaemon, l.args()...)
	a, b := l.assign(p, "a"), l.assign(p, "b")
	l.release(p, "b")
	if status := p.end(t); status != 0 {
		t.Errorf("got exit status %d, want 0: %s", status, p.output)
	}
	entries, err := os.ReadDir(l.dir)
	var left []string
	for _, entry := range entries {
		left = append(left, entry.Name())
	}
	if diff := cmp.Diff([]string{"state.json", "state.json.lock"}, left); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s%v", diff, err)
	}

	p = l.start(childDaemon, l.args()...)
	if got := l.assign(p, "a"); got != a {
		t.Errorf("got %s, want %s as before", got, a)
	}
	want := "rpc error: code = ResourceExhausted desc = no free address: 1 of 2 assigned, 1 cooling"
	if got := l.assign(p, "c"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if status := p.end(t); status != 0 {
		t.Errorf("got exit status %d, want 0", status)
	}
	p = l.start(childDaemon, l.args("--cooling", "0s")...)
	if got := l.assign(p, "c"); got != b {
		t.Errorf("got %s, want %s", got, b)
	}
}

// A call that is running when the daemon is told to end gets its answer, and its change is on disk.
func TestDaemon_term(t *testing.T) {
	l := newLab(t)
	p := l.start(childLate, l.args()...)
	conn := l.connect(p)
	defer conn.Close()
	answer := make(chan string, 1)
	go func() {
		reply, err := rpc.NewCNIBackendClient(conn).AddNetwork(t.Context(), add("a"))
		answer <- fmt.Sprint(reply.GetIPAllocationMetadata(), err)
	}()
	l.eventually("the call is running", func() bool { return len(l.assignments()) == 1 })
	if status := p.end(t); status != 0 {
		t.Errorf("got exit status %d, want 0: %s", status, p.output)
	}
	want := fmt.Sprint([]*rpc.IPAllocationMetadata{{IPv4Addr: "10.0.0.16", RouteTableId: 254}}, nil)
	if got := <-answer; got != want {
		t.Errorf("got answer  %s\nwant answer %s", got, want)
	}
	p = l.start(childDaemon, l.args()...)
	l.connect(p).Close()
	if all := l.assignments(); len(all) != 1 || all[0].Address.String() != "10.0.0.16" {
		t.Errorf("got %v assigned, want 10.0.0.16", all)
	}
}

// The cloud changes several things while the daemon runs.
func TestDaemon_reconcile(t *testing.T) {
	l := newLab(t)
	l.service.Set(inventory("10.0.0.16/31"))
	p := l.start(childDaemon, l.args("--reconcile", "100ms", "--cooling", "0s")...)
	l.assign(p, "a")
	l.assign(p, "b")
	status := func(want string) {
		t.Helper()
		var got string
		l.eventually("status has "+want, func() bool {
			got, _ = l.get("/v1/status")
			return strings.Contains(strings.Join(strings.Fields(got), ""), want)
		})
	}
	status(`"addresses":{"total":2,"free":0,"assigned":2,"cooling":0,"removed":0}`)

	inv := inventory("10.0.0.16/31", "10.0.1.16/31")
	inv.ENIs[1].Secondary = []netip.Addr{netip.MustParseAddr("10.0.1.99")}
	l.service.Set(inv) // another ENI
	status(`"addresses":{"total":5,"free":3,"assigned":2,"cooling":0,"removed":0}`)

	l.service.Answer(imdstest.Unavailable) // nothing changes while the service does not answer
	status(`"error":"metadata:`)
	status(`"addresses":{"total":5,"free":3,"assigned":2,"cooling":0,"removed":0}`)
	l.service.Answer(imdstest.Tokens)

	inv.ENIs[0].Prefixes, inv.ENIs[0].Secondary = nil, []netip.Addr{netip.MustParseAddr("10.0.0.16")}
	inv.ENIs[1].Card = 1
	l.service.Set(inv) // one pod's address is gone, and the new ENI is on another card
	status(
		`"addresses":{"total":2,"free":0,"assigned":2,"cooling":0,"removed":1},"unusable":null,"unmanaged":[{"id":"eni-1","networkCard":1,"deviceNumber":1,` +
			`"reason":"theENIisonnetworkcard1:onlycard0isused"}]`)
	if got := l.assign(p, "b"); got != "10.0.0.17" {
		t.Errorf("got %s, want 10.0.0.17 as long as the pod is there", got)
	}
	if !strings.Contains(p.output.String(), "the cloud took away an address in use") {
		t.Errorf("got log %s, want it to tell", p.output)
	}
	l.release(p, "b")
	status(`"addresses":{"total":1,"free":0,"assigned":1,"cooling":0,"removed":0}`)
}

// Until the metadata service answers, no plugin is served, but introspection shows the state.
func TestDaemon_notReady(t *testing.T) {
	l := newLab(t)
	l.service.Answer(imdstest.Unavailable)
	p := l.start(childDaemon, l.args()...)
	l.eventually("the status tells why", func() bool {
		text, err := l.get("/v1/status")
		return err == nil && strings.Contains(text, `"error": "metadata: instance-id: `)
	})
	if _, err := os.Stat(l.socket()); !os.IsNotExist(err) {
		t.Errorf("got %v, want no socket yet", err)
	}
	if status := p.end(t); status != 0 {
		t.Errorf("got exit status %d, want 0: %s", status, p.output)
	}
	p = l.start(childDaemon, l.args()...)
	l.eventually("it has tried", func() bool { _, err := l.get("/v1/status"); return err == nil })
	l.service.Answer(imdstest.NoTokens)
	if got := l.assign(p, "a"); got != "10.0.0.16" {
		t.Errorf("got %s, want 10.0.0.16", got)
	}
	conn := l.connect(p)
	defer conn.Close()
	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{
		Service: "rpc.CNIBackend",
	})
	if err != nil || health.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("got %v, %v, want that it serves", health, err)
	}
}

func TestDaemon_ipv6(t *testing.T) {
	l := newLab(t)
	inv := inventory("10.0.0.16/28", "10.0.1.16/28")
	inv.VPC = append(inv.VPC, netip.MustParsePrefix("2001:db8::/56"))
	inv.ENIs[0].Prefixes = append(inv.ENIs[0].Prefixes, netip.MustParsePrefix("2001:db8:0:0:1::/80"))
	inv.ENIs[1].Prefixes = append(inv.ENIs[1].Prefixes, netip.MustParsePrefix("2001:db8:0:0:2::/80"))
	l.service.Set(inv)
	p := l.start(childDaemon, l.args("--ip-family", "ipv6")...)
	for container, want := range []string{"2001:db8::1:0:0:1", "2001:db8::1:0:0:2"} { // only of the primary ENI
		if got := l.assign(p, fmt.Sprint(container)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	conn := l.connect(p)
	defer conn.Close()
	reply, err := rpc.NewCNIBackendClient(conn).AddNetwork(t.Context(), add("0"))
	if err != nil || len(reply.VPCv4CIDRs) != 0 || len(reply.VPCv6CIDRs) != 1 {
		t.Errorf("got %v, %v, want the IPv6 range of the VPC alone", reply, err)
	}
}

// Each mistake is reported, with status 1, and leaves no file behind.
func TestDaemon_errors(t *testing.T) {
	l := newLab(t)
	first := l.start(childDaemon, l.args()...)
	l.connect(first).Close()
	other := func(args ...string) string {
		t.Helper()
		p := l.start(childDaemon, append(args, "--log-level", "error")...)
		_ = p.Wait()
		if p.ProcessState.ExitCode() != 1 {
			t.Errorf("got exit status %d, want 1", p.ProcessState.ExitCode())
		}
		return strings.TrimSpace(strings.ReplaceAll(p.output.String(), l.dir, "DIR"))
	}
	for want, args := range map[string][]string{
		"ipamd: state DIR/state.json: another ipamd holds it": l.args(),
		"ipamd: socket DIR/introspection.sock: another process answers on it": l.args(
			"--state", l.dir+"/other.json"),
		"ipamd: socket DIR/ipamd.sock: another process answers on it": l.args(
			"--state", l.dir+"/other.json", "--introspection", ""),
		"ipamd: introspection: want the path of a socket or a loopback address with a port, got \"0.0.0.0:1\"": l.args(
			"--state", l.dir+"/other.json", "--introspection", "0.0.0.0:1"),
	} {
		if got := other(args...); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	// After the second daemon failed to take the socket, it still belongs to the first one.
	if got := l.assign(first, "a"); got != "10.0.0.16" {
		t.Errorf("got %s, want 10.0.0.16", got)
	}
	// A state in which two pods have the same address is not repaired by guessing.
	twice := `{"network":"net","containerID":"%s","ifName":"eth0","address":"10.0.0.16","eni":"eni-0","deviceNumber":0,"since":"2024-01-01T00:00:00Z"}`
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	bad := fmt.Sprintf(`{"format":1,"bootID":%q,"assignments":[%s,%s]}`, strings.TrimSpace(string(boot)),
		fmt.Sprintf(twice, "a"), fmt.Sprintf(twice, "b"))
	if err := os.WriteFile(l.dir+"/bad.json", []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "ipamd: state DIR/bad.json: address 10.0.0.16 occurs twice; move it away once no pod of this node has an " +
		"address of it"
	if got := other(l.args("--state", l.dir+"/bad.json")...); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
