// Package server answers the plugins: the gRPC services of package rpc on top of a datastore, whose changes are durable
// before a reply says so.
//
// It knows nothing of the cloud and changes nothing in the kernel: what is on the node for a pod is the plugin's.
//
// Tests: go test ./plugin/ipamd/internal/server
package server

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// Committer makes a version of the datastore durable. It returns once it is.
type Committer interface {
	Commit(ctx context.Context, version uint64) error
}

// Network is what plugins must know about the network.
type Network struct {
	VPC          []netip.Prefix
	ExternalSNAT bool
}

// Options has what a server needs. All are required except Intercept and Changed.
type Options struct {
	Store    *datastore.Store
	Commits  Committer
	Network  func() Network
	Warnings func() []string
	Peers    Peers
	Log      *slog.Logger
	// Intercept sees each call, for metrics; nil means nobody.
	Intercept grpc.UnaryServerInterceptor
	// Changed is told after an assignment or a release, and must return at once; nil means nobody.
	Changed func()
}

// Server is a gRPC server, which serves any number of listeners.
type Server struct {
	*grpc.Server
	health *health.Server
	node   *node
}

// healthNames returns the services whose health can be asked for: all of them at once, each of them, and the name that
// amazon's probes ask for.
func healthNames() []string {
	return []string{
		"", rpc.CNIBackend_ServiceDesc.ServiceName, rpc.Node_ServiceDesc.ServiceName, "grpc.health.v1.aws-node",
	}
}

// New returns a server that serves nothing yet.
func New(opts Options) *Server {
	if opts.Changed == nil {
		opts.Changed = func() {}
	}
	settings := []grpc.ServerOption{grpc.Creds(opts.Peers)}
	if opts.Intercept != nil {
		settings = append(settings, grpc.ChainUnaryInterceptor(opts.Intercept))
	}
	s := &Server{Server: grpc.NewServer(settings...), health: health.NewServer(), node: &node{opts: opts}}
	rpc.RegisterCNIBackendServer(s.Server, &backend{opts: opts})
	rpc.RegisterNodeServer(s.Server, s.node)
	healthpb.RegisterHealthServer(s.Server, s.health)
	reflection.Register(s.Server)
	s.SetServing(false)
	return s
}

// SetServing says whether pods can be attached. Calls are answered either way.
func (s *Server) SetServing(serving bool) {
	s.node.serving.Store(serving)
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		state = healthpb.HealthCheckResponse_SERVING
	}
	for _, name := range healthNames() {
		s.health.SetServingStatus(name, state)
	}
}

type backend struct {
	rpc.UnimplementedCNIBackendServer
	opts Options
}

// AddNetwork assigns an address. If the assignment cannot be made durable it stays with its key in memory: the runtime
// calls DEL after a failed ADD, and an ADD of the same key finds it.
func (b *backend) AddNetwork(ctx context.Context, in *rpc.AddNetworkRequest) (*rpc.AddNetworkReply, error) {
	if in.RequiresMultiNICAttachment {
		return nil, status.Error(codes.Unimplemented, "pods on several network cards are not supported")
	}
	key := datastore.Key{Network: in.NetworkName, ContainerID: in.ContainerID, IfName: in.IfName}
	assigned, version, err := b.opts.Store.Assign(key, datastore.Pod{
		Namespace: in.K8S_POD_NAMESPACE, Name: in.K8S_POD_NAME, Netns: in.Netns,
	})
	if noAddress := (*datastore.NoAddressError)(nil); errors.As(err, &noAddress) {
		b.opts.Changed() // more addresses are wanted
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := b.opts.Commits.Commit(ctx, version); err != nil {
		return nil, notDurable(err)
	}
	b.opts.Changed()
	b.opts.Log.Info("assigned", "address", assigned.Address, "eni", assigned.ENI, "network", key.Network, "container",
		key.ContainerID,
		"ifname", key.IfName, "namespace", in.K8S_POD_NAMESPACE, "pod", in.K8S_POD_NAME)
	network := b.opts.Network()
	reply := &rpc.AddNetworkReply{
		Success: true, IPAllocationMetadata: []*rpc.IPAllocationMetadata{allocation(assigned)},
		UseExternalSNAT: network.ExternalSNAT,
	}
	for _, prefix := range network.VPC {
		if prefix.Addr().Is4() {
			reply.VPCv4CIDRs = append(reply.VPCv4CIDRs, prefix.String())
		} else {
			reply.VPCv6CIDRs = append(reply.VPCv6CIDRs, prefix.String())
		}
	}
	return reply, nil
}

// DelNetwork releases an address. An attachment without one is released already.
func (b *backend) DelNetwork(ctx context.Context, in *rpc.DelNetworkRequest) (*rpc.DelNetworkReply, error) {
	key := datastore.Key{Network: in.NetworkName, ContainerID: in.ContainerID, IfName: in.IfName}
	released, found, version := b.opts.Store.Release(key)
	if err := b.opts.Commits.Commit(ctx, version); err != nil {
		return nil, notDurable(err)
	}
	reply := &rpc.DelNetworkReply{Success: true}
	if found {
		b.opts.Changed()
		b.opts.Log.Info("released", "address", released.Address, "network", key.Network, "container", key.ContainerID,
			"ifname", key.IfName,
			"namespace", released.Namespace, "pod", released.Name, "reason", in.Reason)
		reply.IPAllocationMetadata = []*rpc.IPAllocationMetadata{allocation(released)}
	}
	return reply, nil
}

// notDurable returns the error of a call whose change is not on disk, or not known to be.
func notDurable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}

func allocation(a datastore.Assignment) *rpc.IPAllocationMetadata {
	m := &rpc.IPAllocationMetadata{DeviceNumber: int32(a.Device), RouteTableId: int32(cloud.RouteTable(a.Device))}
	if a.Address.Is4() {
		m.IPv4Addr = a.Address.String()
	} else {
		m.IPv6Addr = a.Address.String()
	}
	return m
}

type node struct {
	rpc.UnimplementedNodeServer
	opts    Options
	serving atomic.Bool
}

// GC releases what no valid attachment has.
func (n *node) GC(ctx context.Context, in *rpc.GCRequest) (*rpc.GCReply, error) {
	if in.NetworkName == "" {
		return nil, status.Error(codes.InvalidArgument, "network_name must not be empty")
	}
	valid := map[datastore.Key]bool{}
	for _, a := range in.ValidAttachments {
		valid[datastore.Key{Network: in.NetworkName, ContainerID: a.GetContainerId(), IfName: a.GetIfName()}] = true
	}
	released, version := n.opts.Store.ReleaseExcept(in.NetworkName, valid)
	if err := n.opts.Commits.Commit(ctx, version); err != nil {
		return nil, notDurable(err)
	}
	reply := &rpc.GCReply{}
	for _, a := range released {
		n.opts.Log.Warn("released by GC", "address", a.Address, "network", a.Network, "container", a.ContainerID,
			"ifname", a.IfName,
			"namespace", a.Namespace, "pod", a.Name)
		reply.Released = append(reply.Released, &rpc.Released{
			Attachment: &rpc.Attachment{ContainerId: a.ContainerID, IfName: a.IfName},
			Address:    a.Address.String(), DeviceNumber: int32(a.Device),
			RouteTableId: int32(cloud.RouteTable(a.Device)),
		})
	}
	if len(released) > 0 {
		n.opts.Changed()
	}
	return reply, nil
}

// GetAssignment looks, and needs no disk: whoever asks about an attachment has had the answer to its AddNetwork.
func (n *node) GetAssignment(_ context.Context, in *rpc.GetAssignmentRequest) (*rpc.GetAssignmentReply, error) {
	a := in.GetAttachment()
	assigned, found, err := n.opts.Store.Lookup(datastore.Key{
		Network: in.NetworkName, ContainerID: a.GetContainerId(), IfName: a.GetIfName(),
	})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if !found {
		return &rpc.GetAssignmentReply{}, nil
	}
	return &rpc.GetAssignmentReply{
		Found: true, Address: assigned.Address.String(),
		DeviceNumber: int32(assigned.Device), RouteTableId: int32(cloud.RouteTable(assigned.Device)),
	}, nil
}

// Status counts addresses.
func (n *node) Status(context.Context, *rpc.StatusRequest) (*rpc.StatusReply, error) {
	st := n.opts.Store.Stats()
	return &rpc.StatusReply{
		Serving: n.serving.Load(), Free: st.Free, Assigned: st.Assigned, Cooling: st.Cooling, Removed: st.Removed,
		Warnings: n.opts.Warnings(),
	}, nil
}
