package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"syscall"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/disk"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// Client is the harness's side of an agent. Its methods are the requests of Server and may be called concurrently. When
// their context ends they return its error at once; the agent still carries the request out.
type Client struct {
	name string
	rpc  *rpc.Client
}

// NewClient returns a client for the agent at the other end of conn; its errors have the name.
func NewClient(name string, conn io.ReadWriteCloser) *Client {
	return &Client{name: name, rpc: rpc.NewClientWithCodec(jsonrpc.NewClientCodec(conn))}
}

// Close ends the connection, and with it the agent.
func (c *Client) Close() error {
	if err := c.rpc.Close(); err != nil && !errors.Is(err, rpc.ErrShutdown) {
		return err
	}
	return nil
}

func call[Reply any](ctx context.Context, c *Client, method string, args any) (Reply, error) {
	_, end := timing.Begin(ctx, phaseOf(method))
	defer end()
	reply := new(Reply)
	pending := c.rpc.Go(rpcName+"."+method, args, reply, make(chan *rpc.Call, 1))
	select {
	case <-ctx.Done():
		var none Reply
		return none, fmt.Errorf("%s: %w", c.name, context.Cause(ctx))
	case done := <-pending.Done:
		if done.Error == nil {
			return *reply, nil
		}
		var none Reply
		if ended(done.Error) {
			return none, fmt.Errorf("%s: %w", c.name, ErrEnded)
		}
		return none, fmt.Errorf("%s: %w", c.name, done.Error)
	}
}

// phaseOf returns the phase to which a request belongs.
func phaseOf(method string) string {
	switch method {
	case "CNI", "Plugin", "Round":
		return timing.Calls
	case "Trace", "ExplainCNI", "MeasureCNI":
		return timing.Traced
	case "Probe", "StartFlow", "StopFlow", "StartCapture", "StopCapture", "Load", "Listen", "Unlisten",
		"Attack", "StartTrap", "StopTrap", "KnownNeighbours", "Reach", "Send", "Queued":
		return timing.Traffic
	case "Snapshot", "Disk":
		return timing.Snapshot
	case "StartDaemon", "StopDaemon", "KillDaemon", "FreezeDaemon", "DoomDaemon", "DelayDaemon", "DeliverDaemon",
		"Exposure":
		return timing.Daemons
	case "Hello", "InstallStubs", "CreateNamespace", "RemoveNamespace", "AddLink", "SetSysctls":
		return timing.Lab
	}
	return timing.Other
}

// ErrEnded is the error of a request during which the agent ended.
var ErrEnded = errors.New("the agent has ended")

// ended reports whether an error says that the other end of a connection is gone, or that this end was closed: a read
// finds the end, a write finds no reader.
func ended(err error) bool {
	for _, end := range []error{rpc.ErrShutdown, io.ErrUnexpectedEOF, io.ErrClosedPipe, os.ErrClosed, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

func tell(ctx context.Context, c *Client, method string, args any) error {
	_, err := call[None](ctx, c, method, args)
	return err
}

// Hello asks the agent for its version and kernel.
func (c *Client) Hello(ctx context.Context) (Hello, error) {
	return call[Hello](ctx, c, "Hello", None{})
}

// LinkKinds returns the given kinds of links that the node's kernel cannot make.
func (c *Client) LinkKinds(ctx context.Context, kinds []string) ([]string, error) {
	return call[[]string](ctx, c, "LinkKinds", kinds)
}

// CreateNamespace makes a pod's network namespace and returns its path.
func (c *Client) CreateNamespace(ctx context.Context, name string) (string, error) {
	return call[string](ctx, c, "CreateNamespace", name)
}

// RemoveNamespace removes a pod's network namespace and what listens in it.
func (c *Client) RemoveNamespace(ctx context.Context, name string) error {
	return tell(ctx, c, "RemoveNamespace", name)
}

// SetSysctls sets sysctls of a namespace.
func (c *Client) SetSysctls(ctx context.Context, netns string, values map[string]string) error {
	return tell(ctx, c, "SetSysctls", SysctlArgs{Netns: netns, Values: values})
}

// Links lists the interfaces of a namespace.
func (c *Client) Links(ctx context.Context, netns string) ([]Link, error) {
	return call[[]Link](ctx, c, "Links", netns)
}

// SetLink sets an interface up or down.
func (c *Client) SetLink(ctx context.Context, args SetLinkArgs) error {
	return tell(ctx, c, "SetLink", args)
}

// SetMAC gives an interface another MAC.
func (c *Client) SetMAC(ctx context.Context, args SetMACArgs) error {
	return tell(ctx, c, "SetMAC", args)
}

// Route returns the route to an address.
func (c *Client) Route(ctx context.Context, netns, address string) (Route, error) {
	return call[Route](ctx, c, "Route", RouteArgs{Netns: netns, Address: address})
}

// CNI runs a verb through libcni.
func (c *Client) CNI(ctx context.Context, req cni.Request) (CNIReply, error) {
	return call[CNIReply](ctx, c, "CNI", req)
}

// Plugin runs one plugin's binary outside of libcni.
func (c *Client) Plugin(ctx context.Context, args PluginArgs) (cni.Call, error) {
	return call[cni.Call](ctx, c, "Plugin", args)
}

// CanTrace says why plugins cannot be traced on this node; empty if they can.
func (c *Client) CanTrace(ctx context.Context) (string, error) {
	return call[string](ctx, c, "CanTrace", None{})
}

// Trace runs a plugin's binary under the tracer, with a fault or without.
func (c *Client) Trace(ctx context.Context, args FaultArgs) (fault.Trace, error) {
	return call[fault.Trace](ctx, c, "Trace", args)
}

// Record runs a plugin and records what it does with files.
func (c *Client) Record(ctx context.Context, args PluginArgs) (fault.Trace, error) {
	return call[fault.Trace](ctx, c, "Record", args)
}

// AttendDaemon kills a daemon, and starts it again under the tracer.
func (c *Client) AttendDaemon(ctx context.Context, args AttendArgs) (Attended, error) {
	return call[Attended](ctx, c, "AttendDaemon", args)
}

// LeaveDaemon kills the daemon that runs under the tracer, and returns what it printed.
func (c *Client) LeaveDaemon(ctx context.Context) (string, error) {
	return call[string](ctx, c, "LeaveDaemon", None{})
}

// Attending begins anew with the daemon that runs under the tracer.
func (c *Client) Attending(ctx context.Context, plan Plan) error {
	return tell(ctx, c, "Attending", plan)
}

// DaemonDid returns what the daemon under the tracer has done since it was last begun with.
func (c *Client) DaemonDid(ctx context.Context) (fault.Watched, error) {
	return call[fault.Watched](ctx, c, "DaemonDid", None{})
}

// ReleaseDaemon lets the daemon's thread go on that is held.
func (c *Client) ReleaseDaemon(ctx context.Context) error {
	return tell(ctx, c, "ReleaseDaemon", None{})
}

// Hold runs a plugin that is stopped before its call at a point, until it is released.
func (c *Client) Hold(ctx context.Context, args FaultArgs) (fault.Trace, error) {
	return call[fault.Trace](ctx, c, "Hold", args)
}

// HeldDid returns what the plugin that Hold runs has done.
func (c *Client) HeldDid(ctx context.Context) (fault.Watched, error) {
	return call[fault.Watched](ctx, c, "HeldDid", None{})
}

// ReleaseHeld lets the plugin go on that Hold runs.
func (c *Client) ReleaseHeld(ctx context.Context) error {
	return tell(ctx, c, "ReleaseHeld", None{})
}

// RecordDaemon restarts a daemon, and records what it does with files until the agent ends.
func (c *Client) RecordDaemon(ctx context.Context, args DaemonArgs) error {
	return tell(ctx, c, "RecordDaemon", args)
}

// RecordCommand runs a program on the node and records what it does with files, in place of what was recorded before.
func (c *Client) RecordCommand(ctx context.Context, args CommandArgs) (CommandReply, error) {
	return call[CommandReply](ctx, c, "RecordCommand", args)
}

// Recorded returns what was recorded until now.
func (c *Client) Recorded(ctx context.Context) (disk.Recording, error) {
	return call[disk.Recording](ctx, c, "Recorded", None{})
}

// LayOut replaces what was written on the node's disk. A reboot must follow.
func (c *Client) LayOut(ctx context.Context, files []File) error {
	return tell(ctx, c, "LayOut", files)
}

// Interleave runs two plugins' binaries under a schedule.
func (c *Client) Interleave(ctx context.Context, args InterleaveArgs) (fault.Interleaving, error) {
	return call[fault.Interleaving](ctx, c, "Interleave", args)
}

// ExplainCNI runs a verb through libcni under the tracer.
func (c *Client) ExplainCNI(ctx context.Context, req cni.Request) (CNIExplained, error) {
	return call[CNIExplained](ctx, c, "ExplainCNI", req)
}

// MeasureCNI runs a verb through libcni with each plugin under the tracer.
func (c *Client) MeasureCNI(ctx context.Context, args CostArgs) (CNICosts, error) {
	return call[CNICosts](ctx, c, "MeasureCNI", args)
}

// Lacks reports whether the node's kernel lacks a feature.
func (c *Client) Lacks(ctx context.Context, feature fault.Feature) (bool, error) {
	return call[bool](ctx, c, "Lacks", feature)
}

// InstallStubs puts the stub plugins on the node, in stub.Dir.
func (c *Client) InstallStubs(ctx context.Context) error {
	return tell(ctx, c, "InstallStubs", None{})
}

// StubRecords lists the calls that stubs logged in a directory.
func (c *Client) StubRecords(ctx context.Context, dir string) ([]stub.Record, error) {
	return call[[]stub.Record](ctx, c, "StubRecords", dir)
}

// Snapshot takes the state of the node.
func (c *Client) Snapshot(ctx context.Context, args SnapshotArgs) (snapshot.State, error) {
	return call[snapshot.State](ctx, c, "Snapshot", args)
}

// AddBridge creates a bridge, so that a plugin finds its name taken.
func (c *Client) AddBridge(ctx context.Context, args ObstacleArgs) error {
	return tell(ctx, c, "AddBridge", args)
}

// OccupyLink makes an interface the port of a bridge, so that no macvlan or ipvlan can be made on it.
func (c *Client) OccupyLink(ctx context.Context, args ObstacleArgs) error {
	return tell(ctx, c, "OccupyLink", args)
}

// RenameLink gives an interface another name.
func (c *Client) RenameLink(ctx context.Context, args RenameLinkArgs) error {
	return tell(ctx, c, "RenameLink", args)
}

// PinFile mounts a file over itself, so that nobody can remove it.
func (c *Client) PinFile(ctx context.Context, path string) error {
	return tell(ctx, c, "PinFile", path)
}

// UnpinFile undoes PinFile.
func (c *Client) UnpinFile(ctx context.Context, path string) error {
	return tell(ctx, c, "UnpinFile", path)
}

// BlockDir puts a file where a directory is or would be.
func (c *Client) BlockDir(ctx context.Context, path string) error {
	return tell(ctx, c, "BlockDir", path)
}

// UnblockDir undoes BlockDir.
func (c *Client) UnblockDir(ctx context.Context, path string) error {
	return tell(ctx, c, "UnblockDir", path)
}

// Revert undoes one change that snapshots showed.
func (c *Client) Revert(ctx context.Context, args RevertArgs) error {
	return tell(ctx, c, "Revert", args)
}

// Listen starts a server in a namespace.
func (c *Client) Listen(ctx context.Context, netns string, spec probe.ListenSpec) error {
	return tell(ctx, c, "Listen", ListenArgs{Netns: netns, Spec: spec})
}

// Probe runs a probe from a namespace.
func (c *Client) Probe(ctx context.Context, netns string, spec probe.Spec) (probe.Result, error) {
	return call[probe.Result](ctx, c, "Probe", ProbeArgs{Netns: netns, Spec: spec})
}

// Lateness returns by how much the agent's timers were late at most, since the time until now.
func (c *Client) Lateness(ctx context.Context, last time.Duration) (time.Duration, error) {
	return call[time.Duration](ctx, c, "Lateness", last)
}

// StartFlow starts a flow from a namespace.
func (c *Client) StartFlow(ctx context.Context, netns string, spec probe.FlowSpec) (int, error) {
	return call[int](ctx, c, "StartFlow", FlowArgs{Netns: netns, Spec: spec})
}

// StopFlow ends a flow.
func (c *Client) StopFlow(ctx context.Context, id int) (probe.FlowResult, error) {
	return call[probe.FlowResult](ctx, c, "StopFlow", id)
}

// StartCapture starts a capture on every interface of a namespace.
func (c *Client) StartCapture(ctx context.Context, netns string, match probe.Match) (int, error) {
	return call[int](ctx, c, "StartCapture", CaptureArgs{Netns: netns, Match: match})
}

// StopCapture ends a capture.
func (c *Client) StopCapture(ctx context.Context, id int) (CaptureReply, error) {
	return call[CaptureReply](ctx, c, "StopCapture", id)
}

// Neighbour returns an entry of a neighbour table.
func (c *Client) Neighbour(ctx context.Context, args NeighbourArgs) (NeighbourReply, error) {
	return call[NeighbourReply](ctx, c, "Neighbour", args)
}

// Advertise sends a router advertisement.
func (c *Client) Advertise(ctx context.Context, args AdvertiseArgs) error {
	return tell(ctx, c, "Advertise", args)
}

// ReadFile reads a file; the reply says if there is none.
func (c *Client) ReadFile(ctx context.Context, path string) (FileReply, error) {
	return call[FileReply](ctx, c, "ReadFile", path)
}

// ListDir lists the names in a directory.
func (c *Client) ListDir(ctx context.Context, path string) ([]string, error) {
	return call[[]string](ctx, c, "ListDir", path)
}

// WriteFile writes a file and its parents.
func (c *Client) WriteFile(ctx context.Context, file File) error {
	return tell(ctx, c, "WriteFile", file)
}

// RemoveFile removes a file.
func (c *Client) RemoveFile(ctx context.Context, path string) error {
	return tell(ctx, c, "RemoveFile", path)
}

// Disk lists the files that were written on the node and survive a reboot.
func (c *Client) Disk(ctx context.Context) ([]File, error) {
	return call[[]File](ctx, c, "Disk", None{})
}

// Command runs a program on the node.
func (c *Client) Command(ctx context.Context, args CommandArgs) (CommandReply, error) {
	return call[CommandReply](ctx, c, "Command", args)
}

// Programs returns the given programs that are in the node's PATH.
func (c *Client) Programs(ctx context.Context, names []string) ([]string, error) {
	return call[[]string](ctx, c, "Programs", names)
}

// StartDaemon starts a daemon and waits until it is ready.
func (c *Client) StartDaemon(ctx context.Context, args DaemonArgs) error {
	return tell(ctx, c, "StartDaemon", args)
}

// StopDaemon tells a daemon to end and waits for that.
func (c *Client) StopDaemon(ctx context.Context, name string) error {
	return tell(ctx, c, "StopDaemon", name)
}

// KillDaemon ends a daemon without any warning.
func (c *Client) KillDaemon(ctx context.Context, name string) error {
	return tell(ctx, c, "KillDaemon", name)
}

// FreezeDaemon freezes or thaws a daemon.
func (c *Client) FreezeDaemon(ctx context.Context, args FreezeArgs) error {
	return tell(ctx, c, "FreezeDaemon", args)
}

// DoomDaemon lets a daemon die before its next answer that follows a change of its files.
func (c *Client) DoomDaemon(ctx context.Context, name string) error {
	return tell(ctx, c, "DoomDaemon", name)
}

// DelayDaemon holds back the next request to a daemon.
func (c *Client) DelayDaemon(ctx context.Context, name string) error {
	return tell(ctx, c, "DelayDaemon", name)
}

// DeliverDaemon passes the request on that was held back.
func (c *Client) DeliverDaemon(ctx context.Context, name string) error {
	return tell(ctx, c, "DeliverDaemon", name)
}

// Daemon returns the state of a daemon.
func (c *Client) Daemon(ctx context.Context, name string) (DaemonState, error) {
	return call[DaemonState](ctx, c, "Daemon", name)
}

// ServeMetadata starts the metadata service of the node's cloud, or replaces its data.
func (c *Client) ServeMetadata(ctx context.Context, args MetadataArgs) error {
	return tell(ctx, c, "ServeMetadata", args)
}
