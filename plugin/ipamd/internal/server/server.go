// Package server implements the gRPC services of package rpc on a datastore. It replies only when the changes are
// durable.
//
// It knows nothing of the cloud and does not change the kernel: the plugin makes everything on the node that belongs to
// a pod.
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

// Committer makes a version of the datastore durable before it returns.
type Committer interface {
	Commit(ctx context.Context, version uint64) error
}

// Network contains what plugins must know about the network.
type Network struct {
	VPC          []netip.Prefix
	ExternalSNAT bool
}

// Options are the settings of a server. All are required except Intercept and Changed.
type Options struct {
	Store    *datastore.Store
	Commits  Committer
	Network  func() Network
	Warnings func() []string
	Peers    Peers
	Log      *slog.Logger
	// Intercept is called with each call, for metrics; nil means that nothing is called.
	Intercept grpc.UnaryServerInterceptor
	// Changed is called after an assignment or a release, and must return at once; nil means that nothing is called.
	Changed func()
}

// Server is a gRPC server for any number of listeners.
type Server struct {
	*grpc.Server
	health *health.Server
	node   *node
}

// healthNames returns the services whose health can be queried: all together, each one, and the name that amazon's
// probes use.
func healthNames() []string {
	return []string{
		"", rpc.CNIBackend_ServiceDesc.ServiceName, rpc.Node_ServiceDesc.ServiceName, "grpc.health.v1.aws-node",
	}
}

// New returns a server that does not serve yet.
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

// SetServing sets whether the health service reports that pods can be attached. Calls are answered in either case.
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

// AddNetwork assigns an address. If the assignment cannot be made durable, it stays in memory under its key: the
// runtime calls DEL after a failed ADD, and another ADD of the same key finds it.
func (b *backend) AddNetwork(ctx context.Context, in *rpc.AddNetworkRequest) (*rpc.AddNetworkReply, error) {
	if in.RequiresMultiNICAttachment {
		return nil, status.Error(codes.Unimplemented, "pods on several network cards are not supported")
	}
	key := datastore.Key{Network: in.NetworkName, ContainerID: in.ContainerID, IfName: in.IfName}
	assigned, version, err := b.opts.Store.Assign(key, datastore.Pod{
		Namespace: in.K8S_POD_NAMESPACE, Name: in.K8S_POD_NAME, Netns: in.Netns,
	})
	if noAddress := (*datastore.NoAddressError)(nil); errors.As(err, &noAddress) {
		b.opts.Changed() // more addresses may be needed
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

// DelNetwork releases an address. If the attachment has none, it was released before; that is no error.
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

// notDurable returns the error of a call whose change may not be on disk.
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

// GC releases the addresses of all attachments that are not valid.
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

// GetAssignment returns an attachment's address. It does not wait for the disk: a plugin that asks has already received
// the answer of its AddNetwork.
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
