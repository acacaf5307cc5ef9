package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// daemonTimeout is the time for a request to ipamd, including the connection. A request to a daemon that does not run
// fails at once.
const daemonTimeout = 5 * time.Second

// releaseTimeout is the same for giving back an address: a node that is shut down leaves each pod about a second and a
// half, and what the DEL that is then cut off has not done yet stays. A daemon that only is slow reads the request
// later, and releases the address although nobody waits any longer.
const releaseTimeout = time.Second

// daemon is the plugin's client of ipamd.
type daemon struct {
	socket string
	conn   *grpc.ClientConn
}

// dial prepares a connection, which the first request opens. close must follow.
func dial(socket string) (*daemon, error) {
	conn, err := grpc.NewClient("passthrough:///ipamd",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
			return brittle{conn}, err
		}))
	if err != nil {
		return nil, fmt.Errorf("ipamd at %s: %w", socket, err)
	}
	return &daemon{socket, conn}, nil
}

func (d *daemon) close() { d.conn.Close() }

// brittle is a connection that closes when a write fails. gRPC does not end requests because of that: it waits until
// a read fails too (loopyWriter in internal/transport), and a kernel that refused one write may never let that happen.
type brittle struct{ net.Conn }

func (b brittle) Write(p []byte) (int, error) {
	n, err := b.Conn.Write(p)
	if err != nil {
		b.Close()
	}
	return n, err
}

func (d *daemon) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), daemonTimeout)
}

// failure returns the plugin's error for a failed request. SPEC.md, Error: code 11 means that the call may succeed
// later. That holds if the daemon is not up, does not answer, or has no address left: pods are deleted, and the cloud
// may assign more addresses.
func (d *daemon) failure(what string, err error) error {
	s := status.Convert(err)
	err = fmt.Errorf("ipamd at %s: %s: %s", d.socket, what, s.Message())
	if slices.Contains([]codes.Code{
		codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Aborted,
	}, s.Code()) {
		return chain.TryAgain("%w", err)
	}
	return err
}

// allocation is an address that ipamd has given to an attachment.
type allocation struct {
	Address netip.Addr
	Table   int // the routing table of its ENI
}

func (a allocation) String() string { return fmt.Sprintf("%s of table %d", a.Address, a.Table) }

// assign asks for the address of an attachment. An attachment that has an address keeps it. After an error an address
// may nevertheless be assigned, if the answer was lost; the DEL that follows a failed ADD releases it.
func (d *daemon) assign(request *rpc.AddNetworkRequest) (*rpc.AddNetworkReply, error) {
	ctx, cancel := d.context()
	defer cancel()
	reply, err := rpc.NewCNIBackendClient(d.conn).AddNetwork(ctx, request)
	if err != nil {
		return nil, d.failure("assign an address", err)
	}
	if !reply.Success {
		return nil, chain.TryAgain("ipamd at %s: assign an address: it has none and does not say why", d.socket)
	}
	return reply, nil
}

// readReply refuses answers by which this plugin cannot attach a pod.
func readReply(reply *rpc.AddNetworkReply) (allocation, error) {
	switch {
	case reply.PodVlanId != 0:
		return allocation{}, errors.New("the pod is to have a branch ENI (security groups per pod), which this " +
			"plugin cannot do")
	case reply.NetworkPolicyMode != "":
		return allocation{},
			fmt.Errorf("network policy mode is %q, and this plugin asks no policy agent: leave it unset",
				reply.NetworkPolicyMode)
	case len(reply.IPAllocationMetadata) != 1:
		return allocation{}, fmt.Errorf("want an address on 1 network card, got %d", len(reply.IPAllocationMetadata))
	}
	return readAllocation(reply.IPAllocationMetadata[0])
}

func readAllocation(m *rpc.IPAllocationMetadata) (allocation, error) {
	if (m.IPv4Addr == "") == (m.IPv6Addr == "") {
		return allocation{}, fmt.Errorf("want an IPv4 or an IPv6 address, got %q and %q", m.IPv4Addr, m.IPv6Addr)
	}
	ip, err := netip.ParseAddr(m.IPv4Addr + m.IPv6Addr)
	if err != nil {
		return allocation{}, err
	}
	a := allocation{Address: ip, Table: int(m.RouteTableId)}
	if ip.Is4() != (m.IPv6Addr == "") {
		return allocation{}, fmt.Errorf("%s is of the other family than it says", ip)
	}
	if a.Table == 0 { // the daemon is older than this field
		if a.Table = mainTable; m.DeviceNumber > 0 {
			a.Table = int(m.DeviceNumber) + 1
		}
	}
	return a, nil
}

// assigned returns the address that ipamd holds for an attachment, and changes nothing; the zero value means no
// address.
func (d *daemon) assigned(a record.Attachment) (allocation, error) {
	ctx, cancel := d.context()
	defer cancel()
	reply, err := rpc.NewNodeClient(d.conn).GetAssignment(ctx, &rpc.GetAssignmentRequest{
		NetworkName: a.Network, Attachment: &rpc.Attachment{ContainerId: a.ContainerID, IfName: a.IfName},
	})
	if err != nil {
		return allocation{}, d.failure("look up the address", err)
	}
	if !reply.Found {
		return allocation{}, nil
	}
	ip, err := netip.ParseAddr(reply.Address)
	if err != nil {
		return allocation{}, fmt.Errorf("ipamd at %s: look up the address: %w", d.socket, err)
	}
	return allocation{Address: ip, Table: int(reply.RouteTableId)}, nil
}

// release gives back the address of an attachment and returns it, or the zero value if there was none.
func (d *daemon) release(a record.Attachment, pod podArgs) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	reply, err := rpc.NewCNIBackendClient(d.conn).DelNetwork(ctx, &rpc.DelNetworkRequest{
		K8S_POD_NAME: string(pod.K8S_POD_NAME), K8S_POD_NAMESPACE: string(pod.K8S_POD_NAMESPACE),
		K8S_POD_INFRA_CONTAINER_ID: string(pod.K8S_POD_INFRA_CONTAINER_ID), K8S_POD_UID: string(pod.K8S_POD_UID),
		NetworkName: a.Network, ContainerID: a.ContainerID, IfName: a.IfName, Reason: "PodDeleted",
	})
	if err != nil {
		return netip.Addr{}, d.failure("release the address", err)
	}
	if len(reply.IPAllocationMetadata) == 0 {
		return netip.Addr{}, nil
	}
	released, err := readAllocation(reply.IPAllocationMetadata[0])
	return released.Address, err
}

// collect tells ipamd the valid attachments of a network, and returns the addresses that it released because other
// attachments had them.
func (d *daemon) collect(conf *chain.Config) ([]*rpc.Released, error) {
	ctx, cancel := d.context()
	defer cancel()
	request := &rpc.GCRequest{NetworkName: conf.Name}
	for _, v := range conf.ValidAttachments {
		request.ValidAttachments = append(request.ValidAttachments, &rpc.Attachment{
			ContainerId: v.ContainerID, IfName: v.IfName,
		})
	}
	reply, err := rpc.NewNodeClient(d.conn).GC(ctx, request)
	if err != nil {
		return nil, d.failure("release addresses of pods that are gone", err)
	}
	return reply.Released, nil
}

// ready returns an error with code 50 if ipamd cannot give out an address.
func (d *daemon) ready() error {
	ctx, cancel := d.context()
	defer cancel()
	reply, err := rpc.NewNodeClient(d.conn).Status(ctx, &rpc.StatusRequest{})
	switch {
	case err != nil:
		return chain.NotAvailable("ipamd at %s: status: %s", d.socket, status.Convert(err).Message())
	case !reply.Serving:
		return chain.NotAvailable("ipamd at %s is starting or stopping", d.socket)
	case reply.Free == 0:
		return chain.NotAvailable("ipamd at %s has no free address: %d assigned, %d cooling", d.socket, reply.Assigned,
			reply.Cooling)
	}
	return nil
}
