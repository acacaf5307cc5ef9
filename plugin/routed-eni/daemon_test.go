package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// takes fails the test if a function takes longer than a limit.
func takes(t *testing.T, atMost time.Duration, do func()) {
	t.Helper()
	start := time.Now()
	do()
	if took := time.Since(start); took > atMost {
		t.Errorf("took %s, want at most %s", took.Round(time.Millisecond), atMost)
	}
}

// J02, J03, E06: without the daemon each verb does as much as it can in bounded time, whatever is at the daemon's
// socket.
func TestDaemon_absent(t *testing.T) {
	silent := func(l *lab) error { // accepts connections and never answers
		listener, err := net.Listen("unix", l.socket())
		l.t.Cleanup(func() { listener.Close() })
		return err
	}
	connecting := `connection error: desc = "transport: Error while dialing: dial unix SOCKET: connect: `
	for _, tt := range []struct {
		name   string
		place  func(*lab) error
		atMost time.Duration
		why    string
	}{
		{"no socket", func(*lab) error { return nil }, daemonTimeout, connecting + `no such file or directory"`},
		{"a dead socket", func(l *lab) error {
			listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.socket()})
			if err == nil {
				listener.SetUnlinkOnClose(false)
				err = listener.Close()
			}
			return err
		}, daemonTimeout, connecting + `connection refused"`},
		{"a daemon that hangs", silent, 2 * daemonTimeout, "context deadline exceeded while waiting for connections to become ready"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.start()
			bare := l.state()
			p, q := l.pod("p"), l.pod("q")
			l.mustAdd(p)
			with := l.state()
			l.kill()
			if err := os.Remove(l.socket()); err != nil {
				t.Fatal(err)
			}
			if err := tt.place(l); err != nil {
				t.Fatal(err)
			}
			want := func(err *cniError, code, what string) {
				t.Helper()
				wantError(t, err, code+"ipamd at "+l.socket()+": "+what+": "+strings.ReplaceAll(tt.why, "SOCKET",
					l.socket()))
			}
			takes(t, tt.atMost, func() { want(l.add(q, nil), "11: ", "assign an address") })
			if diff := cmp.Diff(with, l.state()); diff != "" {
				t.Errorf("after ADD (-want +got):\n%s", diff)
			}
			takes(t, tt.atMost, func() { want(l.check(p, nil), "11: ", "look up the address") })
			takes(t, tt.atMost, func() { want(l.status(), "50: ", "status") })
			takes(t, tt.atMost, func() { want(l.gc(p), "11: ", "release addresses of pods that are gone") })
			if diff := cmp.Diff(with, l.state()); diff != "" {
				t.Errorf("after GC (-want +got):\n%s", diff)
			}
			// A node that is shut down waits less than that.
			takes(t, daemonTimeout-releaseTimeout, func() { l.mustDel(p) })
			if diff := cmp.Diff(bare, l.state()); diff != "" {
				t.Errorf("after DEL (-want +got):\n%s", diff)
			}
		})
	}
}

// GC without the daemon cleans up the node and reports the error; with the daemon it also has the address released, and
// so does a repeated DEL.
func TestDaemon_comes_back(t *testing.T) {
	l := newLab(t)
	l.start()
	bare := l.state()
	for _, gone := range []string{"by DEL", "by GC"} {
		p, q := l.pod("p"), l.pod("q")
		l.mustAdd(p)
		l.mustAdd(q)
		l.kill()
		if gone == "by DEL" {
			l.mustDel(p)
			l.mustDel(q)
		} else if err := l.gc(); err == nil || err.Code != 11 {
			t.Errorf("GC: got %v, want code 11", err)
		}
		if diff := cmp.Diff(bare, l.state()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", gone, diff)
		}
		l.start()
		if got := l.assigned(); got != 2 {
			t.Errorf("%s: got %d addresses assigned, want 2 that ipamd was not told of", gone, got)
		}
		l.mustDel(p)
		if got := l.assigned(); got != 1 {
			t.Errorf("%s: got %d addresses assigned after another DEL, want 1", gone, got)
		}
		wantError(t, l.gc(), "")
		if got := l.assigned(); got != 0 {
			t.Errorf("%s: got %d addresses assigned after GC, want 0", gone, got)
		}
	}
}

// J01: a daemon that was killed gives nobody an address that a pod has, and knows the pods it had.
func TestDaemon_killed(t *testing.T) {
	l := newLab(t)
	l.start()
	p, q := l.pod("p"), l.pod("q")
	l.mustAdd(p)
	l.kill()
	l.start()
	wantError(t, l.check(p, nil), "")
	l.mustAdd(q)
	if got := lines(stateOf(t, q.ns), "addr 10"); got != "addr 10.0.97.30/32 dev eth0\n" {
		t.Errorf("got %s, want an address of the ENI without pods", got)
	}
	l.mustDel(p)
	l.mustDel(q)
	if got := l.assigned(); got != 0 {
		t.Errorf("got %d addresses assigned, want 0", got)
	}
}

// D07, G06: the last address is assigned, and is released again.
func TestDaemon_has_no_address(t *testing.T) {
	only := enis()[:1]
	only[0].pods = only[0].pods[:1]
	l := newLab(t, only...)
	l.start()
	p, q := l.pod("p"), l.pod("q")
	l.mustAdd(p)
	full := l.state()
	wantError(t, l.add(q, nil), "11: ipamd at "+l.socket()+": assign an address: no free address: 1 of 1 assigned, 0 "+
		"cooling")
	if diff := cmp.Diff(full, l.state()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantError(t, l.status(), "50: ipamd at "+l.socket()+" has no free address: 1 assigned, 0 cooling")
	wantError(t, l.check(p, nil), "")
	l.mustDel(p)
	wantError(t, l.status(), "")
	l.mustAdd(q)
}

// fakeDaemon gives prepared answers, and remembers the attachments that were released.
type fakeDaemon struct {
	rpc.UnimplementedCNIBackendServer
	rpc.UnimplementedNodeServer
	reply      *rpc.AddNetworkReply
	status     *rpc.StatusReply
	assignment *rpc.GetAssignmentReply // nil is that of a daemon without this call
	mu         sync.Mutex
	requests   []string
}

func (f *fakeDaemon) note(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, text)
}

func (f *fakeDaemon) AddNetwork(_ context.Context, in *rpc.AddNetworkRequest) (*rpc.AddNetworkReply, error) {
	f.note(strings.Join([]string{
		"add", in.NetworkName, in.ContainerID, in.IfName, in.K8S_POD_NAMESPACE,
		in.K8S_POD_NAME, in.K8S_POD_INFRA_CONTAINER_ID,
	}, " "))
	return f.reply, nil
}

func (f *fakeDaemon) DelNetwork(_ context.Context, in *rpc.DelNetworkRequest) (*rpc.DelNetworkReply, error) {
	f.note(strings.Join([]string{
		"del", in.NetworkName, in.ContainerID, in.IfName, in.K8S_POD_NAMESPACE, in.K8S_POD_NAME, in.K8S_POD_UID,
	}, " "))
	return &rpc.DelNetworkReply{Success: true}, nil
}

func (f *fakeDaemon) GetAssignment(ctx context.Context, in *rpc.GetAssignmentRequest) (*rpc.GetAssignmentReply, error) {
	if f.assignment == nil {
		return f.UnimplementedNodeServer.GetAssignment(ctx, in)
	}
	return f.assignment, nil
}

func (f *fakeDaemon) Status(context.Context, *rpc.StatusRequest) (*rpc.StatusReply, error) {
	return f.status, nil
}

func (l *lab) fake(f *fakeDaemon) {
	l.t.Helper()
	listener, err := net.Listen("unix", l.socket())
	if err != nil {
		l.t.Fatal(err)
	}
	server := grpc.NewServer()
	rpc.RegisterCNIBackendServer(server, f)
	rpc.RegisterNodeServer(server, f)
	go func() { _ = server.Serve(listener) }()
	l.t.Cleanup(server.Stop)
}

// Answers with which no pod can be attached: the plugin gives the assigned address back and leaves nothing.
func TestDaemon_replies(t *testing.T) {
	of := func(addresses ...*rpc.IPAllocationMetadata) *rpc.AddNetworkReply {
		return &rpc.AddNetworkReply{Success: true, IPAllocationMetadata: addresses}
	}
	four := &rpc.IPAllocationMetadata{IPv4Addr: "10.0.0.30"}
	for _, tt := range []struct {
		name  string
		reply *rpc.AddNetworkReply
		want  string
	}{
		{"no success", &rpc.AddNetworkReply{}, "11: ipamd at SOCKET: assign an address: it has none and does not say why"},
		{
			"a branch ENI", &rpc.AddNetworkReply{Success: true, PodVlanId: 7},
			"999: ipamd at SOCKET: the pod is to have a branch ENI (security groups per pod), which this plugin cannot do",
		},
		{
			"a network policy", &rpc.AddNetworkReply{
				Success: true, NetworkPolicyMode: "strict", IPAllocationMetadata: of(four).IPAllocationMetadata,
			},
			"999: ipamd at SOCKET: network policy mode is \"strict\", and this plugin asks no policy agent: leave it " +
				"unset",
		},
		{"no address", of(), "999: ipamd at SOCKET: want an address on 1 network card, got 0"},
		{"two network cards", of(four, four), "999: ipamd at SOCKET: want an address on 1 network card, got 2"},
		{
			"both families", of(&rpc.IPAllocationMetadata{IPv4Addr: "10.0.0.30", IPv6Addr: "fd00::30"}),
			"999: ipamd at SOCKET: want an IPv4 or an IPv6 address, got \"10.0.0.30\" and \"fd00::30\"",
		},
		{"the other family", of(&rpc.IPAllocationMetadata{IPv6Addr: "10.0.0.30"}), "999: ipamd at SOCKET: 10.0.0.30 is of the other family than it says"},
		{"no address at all", of(&rpc.IPAllocationMetadata{IPv4Addr: "ten"}), "999: ipamd at SOCKET: ParseAddr(\"ten\"): unable to parse IP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			f := &fakeDaemon{reply: tt.reply}
			l.fake(f)
			p := l.pod("p")
			bare := l.state() + stateOf(t, p.ns)
			wantError(t, l.add(p, nil), strings.ReplaceAll(tt.want, "SOCKET", l.socket()))
			if diff := cmp.Diff(bare, l.state()+stateOf(t, p.ns)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			want := []string{"add net p eth0   "}
			if tt.reply.Success {
				want = append(want, "del net p eth0   ")
			}
			if diff := cmp.Diff(want, f.requests); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// If a daemon names no routing table, the device number determines it. The runtime's arguments about a pod are passed
// on.
func TestDaemon_device_number(t *testing.T) {
	l := newLab(t)
	f := &fakeDaemon{reply: &rpc.AddNetworkReply{
		Success: true, IPAllocationMetadata: []*rpc.IPAllocationMetadata{{IPv4Addr: "10.0.97.31", DeviceNumber: 3}},
	}}
	l.fake(f)
	p := l.pod("p")
	args := "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=p;K8S_POD_UID=u-1;ODD=x"
	for _, verb := range []string{"ADD", "DEL"} {
		c := l.addCall(p, nil)
		c.Command, c.Args = verb, args
		_, err := l.run(c)
		wantError(t, err, "")
		if want := "1536:\tfrom 10.0.97.31 lookup eni-3\n"; verb == "ADD" && lines(l.state(), "1536") != want {
			t.Errorf("got %s, want %s", lines(l.state(), "1536"), want)
		}
	}
	if diff := cmp.Diff([]string{"add net p eth0 prod web-0 p", "del net p eth0 prod web-0 u-1"},
		f.requests); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c := l.addCall(p, nil)
	c.Args = "ODD=x"
	_, err := l.run(c)
	wantError(t, err, `4: CNI_ARGS: ARGS: unknown args ["ODD=x"]`)
}

func TestStatus(t *testing.T) {
	l := newLab(t)
	f := &fakeDaemon{}
	l.fake(f)
	for _, tt := range []struct {
		reply *rpc.StatusReply
		want  string
	}{
		{&rpc.StatusReply{Serving: true, Free: 1}, ""},
		{&rpc.StatusReply{Free: 1}, "50: ipamd at " + l.socket() + " is starting or stopping"},
		{&rpc.StatusReply{Serving: true, Assigned: 4, Cooling: 2}, "50: ipamd at " + l.socket() + " has no free address: 4 assigned, 2 cooling"},
	} {
		f.status = tt.reply
		wantError(t, l.status(), tt.want)
	}
	f.status = &rpc.StatusReply{Serving: true, Free: 1}
	if err := os.MkdirAll("/run/cni/"+pluginName, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("/run/cni", pluginName, "net")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	wantError(t, l.status(), `50: records of network "net" cannot be written: `+file+
		" is a file, want a directory: remove it")
}
