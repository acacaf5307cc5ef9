// Package netns is the backend that needs only one machine: nodes are processes in their own namespaces, connected by a
// bridge in another namespace, never in the machine's.
//
//	          fabric (a bridge in its own namespace)
//	  ┌──────────┬──────────┬──────────┐
//	node/a     node/b    host/lan   host/router ── host/external
//	  │ uplink   │ uplink
//	 pods       pods
//
// In a cloud (vpc.go) there is no bridge between the nodes: the router is connected to each of their interfaces.
//
// A node has its own network, mount, PID, UTS and IPC namespaces. Its root is an overlay of the machine's, so that a
// plugin sees the machine's files and the machine's disk never changes. The backend changes nothing outside of the
// namespaces that it made. They end with the processes in them, which end with the harness.
//
// Run its tests: sudo go test ./e2e/backend/netns
package netns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Backend makes clusters from namespaces. The zero value starts the agents from the program that uses it, which must
// begin with Main. It is safe for concurrent use.
type Backend struct {
	// Command starts an agent: a program and its arguments. A configuration is appended, with which the program must
	// call ChildMain. Empty means the program itself, through Main.
	Command []string
	// Mounts are further mounts of the nodes.
	Mounts Mounts

	fabrics pool[*machine]
	apis    pool[*apiServer]
}

// BinDir is CNI_PATH on the nodes, the default directory of runtimes.
const BinDir = "/opt/cni/bin"

// ConflistDir is the directory of the configuration on a node, the default directory of runtimes.
const ConflistDir = "/etc/cni/net.d"

// ConflistName is the name of the node's conflist there.
const ConflistName = "10-cnitest.conflist"

// Name returns "netns".
func (b *Backend) Name() string { return "netns" }

// Missing returns nil. Features that the kernel lacks are noticed when a cluster is made.
func (b *Backend) Missing(context.Context, scenario.Needs) error { return nil }

// makesDevices returns an error if pods get devices of the node that the lab cannot make.
func makesDevices(file *conflist.File) error {
	const otherwise = "run it on a machine that has them, with --backend ssh"
	_, value := file.DeviceKey()
	switch {
	case file.Plugins[0].Type == "host-device" && value == "":
		return fmt.Errorf("%s names no device for pods, so that the runtime passes one of a PCI bus, which namespaces "+
			"do not have; name one with \"device\" or \"hwaddr\", or %s", file.Path, otherwise)
	case file.PCIDevice():
		return fmt.Errorf("%s gives pods devices of a PCI bus, which namespaces do not have; %s", file.Path, otherwise)
	}
	return nil
}

// Start makes a cluster. It takes some tens of milliseconds.
func (b *Backend) Start(ctx context.Context, req cluster.Request) (_ cluster.Cluster, err error) {
	if err := b.usable(); err != nil {
		return nil, err
	}
	if kinds := UplinkKinds(); req.UplinkKind != "" && !slices.Contains(kinds, req.UplinkKind) {
		return nil, fmt.Errorf("uplink kind %q: want one of %s", req.UplinkKind, strings.Join(kinds, ", "))
	}
	if err := makesDevices(req.Conflist); err != nil {
		return nil, err
	}
	plan, err := makePlan(req)
	if err != nil {
		return nil, err
	}
	lab := &lab{backend: b, req: req, plan: plan, hosts: map[string]*cluster.Place{}, machines: map[string]*machine{}}
	if err := lab.planOther(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lab.Close()
		}
	}()
	if req.Target != nil && req.Target.Cloud != nil {
		if lab.cloud, err = newCloud(lab); err != nil {
			return nil, err
		}
	}
	if err := lab.startMachines(ctx); err != nil {
		return nil, err
	}
	if err := lab.plugAll(ctx); err != nil {
		return nil, err
	}
	if err := lab.routePods(ctx); err != nil {
		return nil, err
	}
	if lab.leases() {
		if err := lab.startDHCP(ctx); err != nil {
			return nil, err
		}
	}
	if err := cluster.StartTarget(ctx, lab.req.Target, lab.nodes...); err != nil {
		return nil, err
	}
	// Most steps are quick and do not check ctx.
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return lab, nil
}

func (b *Backend) usable() error {
	if err := forgotten(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("netns backend: want root or a user namespace in which this process is root")
	}
	return nil
}

// managementNetworks returns the networks of a node's first interface if it has two.
func managementNetworks() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd6d:676d:74::/64")}
}

func makePlan(req cluster.Request) (*conflist.Plan, error) {
	opts := conflist.PlanOptions{
		Uplink: req.Uplink, Subnets: req.Subnets, Gateways: req.Gateways, Devices: req.Devices,
		Chain: conflist.Chain{AfterMain: req.Chain.AfterMain, Append: req.Chain.Append},
	}
	for _, n := range req.Nodes {
		opts.Nodes = append(opts.Nodes, conflist.PlanNode{Name: n.Name, Addresses: n.Addresses, Leases: n.Leases})
		if n.NICs > 1 {
			opts.Avoid = managementNetworks()
		}
	}
	if req.Target != nil && req.Target.Cloud != nil {
		opts.Subnets = []netip.Prefix{CloudLAN(req.Target.Cloud)}
		opts.Avoid = append(opts.Avoid, req.Target.Cloud.Network())
	}
	return req.Conflist.Plan(opts)
}

// lab is a running cluster.
type lab struct {
	backend *Backend
	req     cluster.Request
	plan    *conflist.Plan
	other   *conflist.Plan // of Request.With; nil without it
	cloud   *cloud         // nil without a cloud
	api     *apiServer     // nil without Target.Kubernetes
	nodes   []*cluster.Node
	hosts   map[string]*cluster.Place
	fabricOf

	mu       sync.Mutex
	machines map[string]*machine // by node
}

// fabricOf is the fabric of a cluster.
type fabricOf struct {
	fabric   *machine
	bridging sync.Mutex // held by who makes a bridge
	closing  sync.Once  // of the fabric
}

// Nodes returns the nodes in the order of the request.
func (l *lab) Nodes() []*cluster.Node { return l.nodes }

// Hosts returns the router, the LAN host and the external host, or none if the request wants only nodes.
func (l *lab) Hosts() map[string]*cluster.Place { return l.hosts }

// Fabric returns the namespace of the bridge, or of the VPC's router.
func (l *lab) Fabric() *cluster.Place {
	if l.cloud != nil {
		return l.routerPlace()
	}
	return &cluster.Place{Name: cluster.FabricName, Agent: l.fabric.agent}
}

// Notes returns the notes of the plan.
func (l *lab) Notes() []string { return l.plan.Notes }

// Close ends every process of the cluster; the kernel frees their namespaces. A fabric that another cluster can use
// ends some seconds later. Close may be called again.
func (l *lab) Close() error {
	l.mu.Lock()
	machines := slices.Collect(maps.Values(l.machines))
	l.mu.Unlock()
	var all sync.WaitGroup
	all.Go(l.closeFabric)
	for _, m := range machines {
		all.Go(m.close)
	}
	all.Wait()
	l.returnAPI()
	return nil
}

func (l *lab) startMachines(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make([]error, len(l.plan.Nodes)+2)
	all.Go(func() { errs[0] = l.startFabric(ctx) })
	all.Go(func() { errs[len(errs)-1] = l.startAPI(ctx) })
	for i, n := range l.plan.Nodes {
		all.Go(func() {
			m, err := l.startMachine(ctx, "node/"+n.Name)
			if errs[i+1] = err; err != nil {
				return
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.machines[n.Name] = m
		})
	}
	all.Wait()
	// If machines do not start, all have the same reason.
	return cmp.Or(errs...)
}

// plugAll makes everybody's interfaces, all at once.
func (l *lab) plugAll(ctx context.Context) error {
	l.nodes = make([]*cluster.Node, len(l.plan.Nodes))
	group, ctx := errgroup.WithContext(ctx)
	if l.cloud != nil {
		if err := l.cloud.makeVPC(ctx); err != nil {
			return err
		}
	} else if !l.req.Alone || l.leases() {
		group.Go(func() error { return l.plugHosts(ctx) })
	}
	for i := range l.nodes {
		group.Go(func() (err error) {
			l.nodes[i], err = l.plugNode(ctx, i, nil)
			return err
		})
	}
	return group.Wait()
}

func (l *lab) startMachine(ctx context.Context, name string) (*machine, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	dir, err := realPath(l.req.BinDir)
	if err != nil {
		return nil, fmt.Errorf("plugin binaries: %w", err)
	}
	binds := []Bind{{From: dir, To: BinDir}}
	if l.req.OldBinDir != "" {
		old, err := realPath(l.req.OldBinDir)
		if err != nil {
			return nil, fmt.Errorf("plugin binaries of an earlier version: %w", err)
		}
		binds = []Bind{{From: dir, To: cluster.NewPrograms}, {From: old, To: cluster.OldPrograms}}
	}
	for path, from := range l.req.Programs {
		binds = append(binds, Bind{From: from, To: path})
	}
	config := childConfig{Binds: binds}
	if name != cluster.FabricName {
		config.Mounts = l.backend.Mounts
	}
	return startMachine(ctx, l.backend.command(), name, config)
}

// realPath returns an absolute path without symbolic links, which may lead elsewhere on a node.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// Reboot ends the node's processes and thereby its kernel state, and starts it again with its disk. If that fails, the
// node is down; other nodes, and Close, are not affected.
func (l *lab) Reboot(ctx context.Context, node *cluster.Node) error {
	index := l.index(node)
	if index < 0 {
		return fmt.Errorf("reboot %s: no such node", node.Name)
	}
	disk, err := node.Agent.Disk(ctx)
	if err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	name := l.plan.Nodes[index].Name
	l.machine(name).close()
	l.unplug(index)
	fresh, err := l.startMachine(ctx, node.Name)
	if err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	l.mu.Lock()
	l.machines[name] = fresh
	l.mu.Unlock()
	again, err := l.plugNode(ctx, index, disk)
	if err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	*node = *again
	if err := l.routePods(ctx); err != nil {
		return err
	}
	return cluster.StartTarget(ctx, l.req.Target, node)
}

// machine returns the machine of a node.
func (l *lab) machine(node string) *machine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machines[node]
}

// restore writes the files of a disk.
func restore(ctx context.Context, a *agent.Client, disk []agent.File) error {
	for _, file := range disk {
		if err := a.WriteFile(ctx, file); err != nil {
			return fmt.Errorf("restore %s: %w", file.Path, err)
		}
	}
	return nil
}
