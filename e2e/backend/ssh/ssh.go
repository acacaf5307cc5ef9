// Package ssh is the backend for machines that ssh reaches: virtual machines of Vagrant, servers, instances of a cloud.
// Its nodes are these machines themselves, with their kernel, their links, and all other programs that run on them.
//
//	cnitest ── ssh ── node1: keeper ── agent of a scenario's node a
//	       └── ssh ── node2: keeper ── agent of a scenario's node b
//
// A run uses one connection per machine. The backend copies this program and the plugins to the machine if they have
// changed, and starts a keeper (package keeper) as root, which starts the agents. An agent has its own mount, PID, UTS
// and IPC namespaces, like an agent of the netns backend, and the network of the machine. So no file of the machine is
// ever changed, and processes that plugins start end with the agent. The keeper restores the network after each
// scenario and at the end, even if this process is killed or the connection breaks.
//
// Each machine exists only once, so one cluster is used at a time. There are hosts around the nodes only if another
// machine plays them. Scenarios that need something that a machine cannot do repeatedly are skipped, with that reason.
//
// Run its tests: sudo go test ./e2e/backend/ssh
package ssh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Options say which machines are nodes, and how they are reached.
type Options struct {
	// Nodes are destinations of ssh, in the order of the scenarios' nodes. At least one is required.
	Nodes []string
	// Outside is the destination of a machine on the underlay that is not a node. It plays the hosts around the nodes,
	// and takes the address that the conflist names as gateway, which nobody may have yet. Empty means that there are
	// no hosts.
	Outside string
	// ConfigFile is the configuration of ssh (ssh_config(5)); empty means the user's own and the system's.
	ConfigFile string
	// Program is ssh with its first arguments; empty means ssh.
	Program []string
	// Conflist is the conflist of the run, and BinDir has the plugins' binaries. Both are required.
	Conflist *conflist.File
	BinDir   string
	// Subnet is the underlay's network. A machine's uplink is the interface with an address in it. The zero value means
	// the network of the conflist.
	Subnet netip.Prefix
	// Uplink is the name of the uplink on every machine; empty means the interface with an address in Subnet.
	Uplink string
	// Binary returns the path of this program for an architecture, as Go names it. Required.
	Binary func(arch string) (string, error)
	// Reboot is a command that reboots a machine; it runs there as root. Empty means that machines must not be
	// rebooted.
	Reboot []string
	// Log is called with a line of text before each operation that takes some time; nil means that nothing is called.
	Log func(text string)
}

// Backend is a set of connected machines. Close it.
type Backend struct {
	options  Options
	machines []*machine
	outside  *machine // nil if there is none
	plugins  *plugins

	mu sync.Mutex
	// open contains the clusters that were not closed, in the order of their start.
	open []*lab
	// dirty is set while the network of the machines may differ from what was found.
	dirty bool
}

// Open connects to the machines and copies the files that they need. After an error nothing is left behind.
func Open(ctx context.Context, options Options) (_ *Backend, err error) {
	if len(options.Program) == 0 {
		options.Program = []string{"ssh"}
	}
	if options.Log == nil {
		options.Log = func(string) {}
	}
	b := &Backend{options: options, machines: make([]*machine, len(options.Nodes))}
	if b.plugins, err = findPlugins(options.BinDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = b.Close()
		}
	}()
	group, groupCtx := errgroup.WithContext(ctx)
	for i, name := range options.Nodes {
		b.machines[i] = &machine{name: name, options: &b.options, plugins: b.plugins}
		group.Go(func() error { return b.machines[i].connect(groupCtx) })
	}
	if options.Outside != "" {
		b.outside = &machine{name: options.Outside, options: &b.options, plugins: b.plugins}
		group.Go(func() error { return b.outside.connect(groupCtx) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	// Check the conflist before anything runs.
	nodes := make([]scenario.Node, 0, len(b.machines))
	for i := range b.machines {
		nodes = append(nodes, scenario.Node{Name: scenario.NodeName(i)})
	}
	if _, err = b.plan(cluster.Request{Conflist: options.Conflist, Nodes: nodes}); err == nil && b.outside != nil {
		_, err = b.uplinkOf(b.outside)
	}
	return b, err
}

// all returns the machines, the one outside the cluster last.
func (b *Backend) all() []*machine {
	if b.outside == nil {
		return b.machines
	}
	return append(slices.Clone(b.machines), b.outside)
}

// Name returns "ssh".
func (b *Backend) Name() string { return "ssh" }

// Exclusive returns true: there is only one set of machines.
func (b *Backend) Exclusive() bool { return true }

// Missing returns the reason why a scenario cannot run on these machines, or nil.
func (b *Backend) Missing(_ context.Context, needs scenario.Needs) error {
	if err := b.lost(); err != nil {
		return err
	}
	reboots := len(b.options.Reboot) > 0
	switch {
	case needs.Nodes > len(b.machines):
		return fmt.Errorf("it needs %d nodes, and --nodes names %d", needs.Nodes, len(b.machines))
	case len(needs.Hosts) > 0 && b.outside == nil:
		return fmt.Errorf("it uses host/%s, and all machines that ssh reaches are nodes; name another one with "+
			"--outside", strings.Join(needs.Hosts, ", host/"))
	case needs.Routed && b.outside == nil:
		return errors.New("it has pods of a routed network, to which the router of the machines' LAN has no route; " +
			"name a machine that plays the router with --outside")
	case needs.Leases:
		return errors.New("the DHCP server of the machines' LAN does not tell what its clients do")
	case needs.Hostile:
		return &cluster.BeyondError{Reason: "it sends hostile traffic, and these machines share their LAN with others"}
	case len(needs.Events) > 0:
		return &cluster.BeyondError{Reason: "it takes uplinks down and flushes rules, on which these machines " +
			"depend: " + strings.Join(needs.Events, ", ")}
	case needs.Cloud:
		return errors.New("no cloud gives these machines further network interfaces and addresses during a run")
	case needs.Reboot && !reboots:
		return errors.New("it reboots a node; allow that with --reboot 'systemctl reboot'")
	case len(needs.Sysctls) > 0 && !reboots:
		return fmt.Errorf("it changes settings that can make a machine unreachable (%s); allow that with "+
			"--reboot 'systemctl reboot'",
			strings.Join(needs.Sysctls, ", "))
	case needs.SecondNIC:
		for _, m := range b.machines {
			if uplink, err := b.uplinkOf(m); err == nil && len(m.management(uplink.Name)) == 0 {
				return fmt.Errorf("it needs two NICs, and %s has no address on any other than %s", m.name,
					uplink.Name)
			}
		}
	}
	return nil
}

// lost returns the reason why a machine does not answer any more, or nil.
func (b *Backend) lost() error {
	for _, m := range b.all() {
		if err := m.lost(); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the keepers, which restore their machines, and waits for them. Its error says what was not restored. It
// may be called again.
func (b *Backend) Close() error {
	var all sync.WaitGroup
	errs := make([]error, len(b.all()))
	for i, m := range b.all() {
		if m != nil {
			all.Go(func() { errs[i] = m.close() })
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// plan returns the conflist's plan for these machines.
func (b *Backend) plan(req cluster.Request) (*conflist.Plan, error) {
	options := conflist.PlanOptions{
		Subnets: req.Subnets, Gateways: req.Gateways,
		Chain: conflist.Chain{AfterMain: req.Chain.AfterMain, Append: req.Chain.Append},
	}
	if b.options.Subnet.IsValid() {
		options.Subnets = []netip.Prefix{b.options.Subnet.Masked()}
	}
	for i, n := range req.Nodes {
		if i >= len(b.machines) {
			return nil, fmt.Errorf("want %d nodes, got %d machines", len(req.Nodes), len(b.machines))
		}
		uplink, err := b.uplinkOf(b.machines[i])
		if err != nil {
			return nil, err
		}
		options.Nodes = append(options.Nodes, conflist.PlanNode{
			Name: n.Name, Addresses: n.Addresses, Own: uplink.Prefixes(), Uplink: uplink.Name,
		})
	}
	return req.Conflist.Plan(options)
}

// restore restores the networks of the machines. The caller holds b.mu.
func (b *Backend) restore(ctx context.Context, networks []netip.Prefix) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, m := range b.all() {
		group.Go(func() error {
			left, err := m.keeper.Restore(ctx, networks)
			if err != nil {
				return err
			}
			if len(left) > 0 {
				return fmt.Errorf("%s: the network is not as it was found: %s", m.name, strings.Join(left, "; "))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	b.dirty = false
	return nil
}

// restoreTimeout limits the end of a cluster.
const restoreTimeout = 30 * time.Second

// closed records the end of a cluster. When the last one ends, the machines are restored; before that, others use them.
func (b *Backend) closed(l *lab) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = slices.DeleteFunc(b.open, func(other *lab) bool { return other == l })
	if len(b.open) > 0 || !b.dirty {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), restoreTimeout)
	defer cancel()
	return b.restore(ctx, l.plan.Networks())
}
