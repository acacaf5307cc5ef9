package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// commits is a Committer that records the versions, and fails when told to.
type commits struct {
	err      error
	versions []uint64
}

func (c *commits) Commit(_ context.Context, version uint64) error {
	c.versions = append(c.versions, version)
	return c.err
}

// lab is a server on a socket and a client of it.
type lab struct {
	server  *Server
	store   *datastore.Store
	commits *commits
	changes int
	backend rpc.CNIBackendClient
	node    rpc.NodeClient
	conn    *grpc.ClientConn
	path    string
}

func newLab(t *testing.T, uids ...uint32) *lab {
	t.Helper()
	l := &lab{
		store: datastore.New(datastore.Options{Cooling: time.Hour}), commits: &commits{},
		path: filepath.Join(t.TempDir(), "ipamd.sock"),
	}
	l.store.Sync([]datastore.ENI{
		{ID: "eni-0", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
		{ID: "eni-2", Device: 2, Addresses: []netip.Addr{netip.MustParseAddr("10.0.2.1"), netip.MustParseAddr("2001:db8::1")}},
	})
	l.server = New(Options{
		Store: l.store, Commits: l.commits, Log: slog.New(slog.DiscardHandler), Peers: Peers{UIDs: uids},
		Network: func() Network {
			return Network{VPC: []netip.Prefix{
				netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("2001:db8::/56"),
			}, ExternalSNAT: true}
		},
		Warnings: func() []string { return []string{"rp_filter is strict"} },
		Changed:  func() { l.changes++ },
	})
	listener, err := Listen(l.path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := l.server.Serve(listener); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(l.server.Stop)
	l.conn, err = grpc.NewClient("unix://"+l.path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.conn.Close() })
	l.backend, l.node = rpc.NewCNIBackendClient(l.conn), rpc.NewNodeClient(l.conn)
	return l
}

func self() uint32 { return uint32(os.Getuid()) }

func add(container string) *rpc.AddNetworkRequest {
	return &rpc.AddNetworkRequest{NetworkName: "net", ContainerID: container, IfName: "eth0", K8S_POD_NAME: "pod-" +
		container, ClientVersion: "v9"}
}

func del(container string) *rpc.DelNetworkRequest {
	return &rpc.DelNetworkRequest{NetworkName: "net", ContainerID: container, IfName: "eth0"}
}

func TestBackend(t *testing.T) {
	l := newLab(t, self())
	added := func(m *rpc.IPAllocationMetadata) *rpc.AddNetworkReply {
		return &rpc.AddNetworkReply{
			Success: true, IPAllocationMetadata: []*rpc.IPAllocationMetadata{m}, UseExternalSNAT: true,
			VPCv4CIDRs: []string{"10.0.0.0/16"}, VPCv6CIDRs: []string{"2001:db8::/56"},
		}
	}
	primary := &rpc.IPAllocationMetadata{IPv4Addr: "10.0.0.1", DeviceNumber: 0, RouteTableId: 254}
	secondary := &rpc.IPAllocationMetadata{IPv4Addr: "10.0.2.1", DeviceNumber: 2, RouteTableId: 3}
	six := &rpc.IPAllocationMetadata{IPv6Addr: "2001:db8::1", DeviceNumber: 2, RouteTableId: 3}
	for _, tt := range []struct {
		name string
		call func(context.Context) (any, error)
		want any
		err  string
	}{
		{"add", l.add("a"), added(primary), ""},
		{"add again", l.add("a"), added(primary), ""},
		{"add another", l.add("b"), added(secondary), ""},
		{"add with IPv6", l.add("c"), added(six), ""},
		{"add one too many", l.add("d"), nil, "ResourceExhausted: no free address: 3 of 3 assigned, 0 cooling"},
		{"add without a container", l.add(""), nil, "InvalidArgument: network, container ID and interface name must not be empty"},
		{"add on several cards", func(ctx context.Context) (any, error) {
			return l.backend.AddNetwork(ctx, &rpc.AddNetworkRequest{RequiresMultiNICAttachment: true})
		}, nil, "Unimplemented: pods on several network cards are not supported"},
		{"look up", l.lookUp("net", "a"), &rpc.GetAssignmentReply{Found: true, Address: "10.0.0.1", RouteTableId: 254}, ""},
		{"look up on a secondary ENI", l.lookUp("net", "c"), &rpc.GetAssignmentReply{
			Found: true, Address: "2001:db8::1", DeviceNumber: 2, RouteTableId: 3,
		}, ""},
		{"look up what got none", l.lookUp("net", "d"), &rpc.GetAssignmentReply{}, ""},
		{"look up in another network", l.lookUp("other", "a"), &rpc.GetAssignmentReply{}, ""},
		{"look up without a network", l.lookUp("", "a"), nil, "InvalidArgument: network, container ID and interface name must not be empty"},
		{"look up without a container", l.lookUp("net", ""), nil, "InvalidArgument: network, container ID and interface name must not be empty"},
		{
			"look up nothing", func(ctx context.Context) (any, error) {
				return l.node.GetAssignment(ctx, &rpc.GetAssignmentRequest{NetworkName: "net"})
			},
			nil, "InvalidArgument: network, container ID and interface name must not be empty",
		},
		{"delete", l.del("b"), &rpc.DelNetworkReply{Success: true, IPAllocationMetadata: []*rpc.IPAllocationMetadata{secondary}}, ""},
		{"delete again", l.del("b"), &rpc.DelNetworkReply{Success: true}, ""},
		{"look up what was deleted", l.lookUp("net", "b"), &rpc.GetAssignmentReply{}, ""},
		{"delete what never was", l.del("never"), &rpc.DelNetworkReply{Success: true}, ""},
		{
			"status", func(ctx context.Context) (any, error) { return l.node.Status(ctx, &rpc.StatusRequest{}) },
			&rpc.StatusReply{Assigned: 2, Cooling: 1, Warnings: []string{"rp_filter is strict"}}, "",
		},
		{"collect without a network", func(ctx context.Context) (any, error) {
			return l.node.GC(ctx, &rpc.GCRequest{})
		}, nil, "InvalidArgument: network_name must not be empty"},
		{"collect another network", l.gc("other"), &rpc.GCReply{}, ""},
		{"collect", l.gc("net", "a"), &rpc.GCReply{Released: []*rpc.Released{{
			Attachment: &rpc.Attachment{ContainerId: "c", IfName: "eth0"}, Address: "2001:db8::1", DeviceNumber: 2,
			RouteTableId: 3,
		}}}, ""},
		{"collect again", l.gc("net", "a"), &rpc.GCReply{}, ""},
		{"add what was kept", l.add("a"), added(primary), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.call(t.Context())
			if text := errorText(err); text != tt.err {
				t.Errorf("got error  %s\nwant error %s", text, tt.err)
			}
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); err == nil && diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	// Every reply waited for the version that contains its change. The last calls change nothing. A lookup does not
	// wait.
	if diff := cmp.Diff([]uint64{1, 1, 2, 3, 4, 4, 4, 4, 5, 5, 5}, l.commits.versions); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if l.changes != 8 {
		t.Errorf("got %d changes told, want 8", l.changes)
	}
}

func (l *lab) add(container string) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) { return l.backend.AddNetwork(ctx, add(container)) }
}

func (l *lab) del(container string) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) { return l.backend.DelNetwork(ctx, del(container)) }
}

func (l *lab) gc(network string, valid ...string) func(context.Context) (any, error) {
	in := &rpc.GCRequest{NetworkName: network}
	for _, container := range valid {
		in.ValidAttachments = append(in.ValidAttachments, &rpc.Attachment{ContainerId: container, IfName: "eth0"})
	}
	return func(ctx context.Context) (any, error) { return l.node.GC(ctx, in) }
}

func (l *lab) lookUp(network, container string) func(context.Context) (any, error) {
	in := &rpc.GetAssignmentRequest{
		NetworkName: network, Attachment: &rpc.Attachment{ContainerId: container, IfName: "eth0"},
	}
	return func(ctx context.Context) (any, error) { return l.node.GetAssignment(ctx, in) }
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return status.Code(err).String() + ": " + status.Convert(err).Message()
}

// While the disk is full, no assignment is confirmed. An assignment stays with its key: a DEL, or the same ADD, finds
// it.
func TestBackend_notDurable(t *testing.T) {
	l := newLab(t, self())
	l.commits.err = errors.New("state: disk full")
	for name, call := range map[string]func(context.Context) (any, error){
		"add": l.add("a"), "del": l.del("x"), "gc": l.gc("other"),
	} {
		if _, err := call(t.Context()); errorText(err) != "Unavailable: state: disk full" {
			t.Errorf("%s: got %v", name, err)
		}
	}
	l.commits.err = context.DeadlineExceeded
	if _, err := l.add("a")(t.Context()); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v, want a deadline", err)
	}
	l.commits.err = nil
	reply, err := l.backend.AddNetwork(t.Context(), add("a"))
	if err != nil || reply.IPAllocationMetadata[0].IPv4Addr != "10.0.0.1" || l.store.Stats().Assigned != 1 {
		t.Errorf("got %v, %v, want 10.0.0.1 and no other address", reply, err)
	}
}

func TestServer_SetServing(t *testing.T) {
	l := newLab(t, self())
	client := healthpb.NewHealthClient(l.conn)
	for serving, want := range map[bool]healthpb.HealthCheckResponse_ServingStatus{
		false: healthpb.HealthCheckResponse_NOT_SERVING, true: healthpb.HealthCheckResponse_SERVING,
	} {
		l.server.SetServing(serving)
		for _, name := range []string{"", "rpc.CNIBackend", "cnitest.ipamd.v1.Node", "grpc.health.v1.aws-node"} {
			got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
			if err != nil || got.Status != want {
				t.Errorf("%q: got %v, %v, want %s", name, got, err, want)
			}
		}
		if got, err := l.node.Status(t.Context(), &rpc.StatusRequest{}); err != nil || got.Serving != serving {
			t.Errorf("got %v, %v, want serving %v", got, err, serving)
		}
	}
}

func TestServer_reflection(t *testing.T) {
	l := newLab(t, self())
	stream, err := reflectionpb.NewServerReflectionClient(l.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(list); err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, service := range reply.GetListServicesResponse().GetService() {
		names = append(names, service.Name)
	}
	for _, want := range []string{"rpc.CNIBackend", "cnitest.ipamd.v1.Node", "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("got services %q, want %s among them", names, want)
		}
	}
}

// A user who is not on the list gets no answer, whatever the socket's permissions.
func TestPeers(t *testing.T) {
	l := newLab(t, self()+1)
	if _, err := l.backend.AddNetwork(t.Context(), add("a")); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want a refused connection", err)
	}
	if got := l.store.Stats().Assigned; got != 0 {
		t.Errorf("got %d assigned, want none", got)
	}

	var refused []uint32
	peers := Peers{UIDs: []uint32{self() + 1}, Refused: func(uid uint32) { refused = append(refused, uid) }}
	client, end := net.Pipe()
	defer client.Close()
	if _, _, err := peers.ServerHandshake(end); fmt.Sprint(err) != "want a unix socket, got pipe" {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(t.TempDir(), "s")
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := fmt.Sprintf("user %d of process %d may not connect", self(), os.Getpid())
	if _, _, err := peers.ServerHandshake(conn); fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if diff := cmp.Diff([]uint32{self()}, refused); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "ipamd.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
	if _, err := Listen(path); fmt.Sprint(err) != "socket "+path+": another process answers on it" {
		t.Errorf("got %v", err)
	}
	// Close without removing, as a killed process does.
	if err := first.(socket).UnixListener.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(path)
	if err != nil {
		t.Fatalf("on a socket left behind: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if len(left) != 0 || err != nil {
		t.Errorf("got %v, %v, want nothing left", left, err)
	}
	if _, err := Listen("/dev/null/ipamd.sock"); fmt.Sprint(err) != "socket: mkdir /dev/null: not a directory" {
		t.Errorf("got %v", err)
	}
	if _, err := Listen(filepath.Join(t.TempDir(), strings.Repeat("x", 120))); err == nil ||
		!errors.Is(err, syscall.EINVAL) {
		t.Errorf("got %v, want %v", err, syscall.EINVAL)
	}
}
