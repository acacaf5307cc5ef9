// Package ssh is the backend of machines that ssh reaches: virtual machines of Vagrant, servers, instances of a cloud.
// Its nodes are these machines themselves, with their kernel, their links, and what else runs on them.
//
//	cnitest ── ssh ── node1: keeper ── agent of a scenario's node a
//	       └── ssh ── node2: keeper ── agent of a scenario's node b
//
// One connection per machine serves a whole run. It copies this program and the plugins there, if they have changed,
// and starts a keeper (package keeper) as root, which starts the agents. An agent has its own mount, PID, UTS and IPC
// namespace, as one of the netns backend, and the network of the machine. So no file of the machine is ever changed,
// what plugins start ends with the agent, and what they change in the network the keeper takes back after each
// scenario, and at the end, even where this process is killed or the connection is cut.
//
// Machines exist once: one cluster is used at a time. There are hosts around the nodes where one more machine plays
// them, and nothing that a machine cannot do again and again: scenarios that need more say so and are skipped.
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
	// Nodes are destinations of ssh, in the order in which scenarios name their nodes. At least one.
	Nodes []string
	// Outside is the destination of a machine on the underlay that is no node: it plays the hosts around them, and
	// becomes the router that the conflist names as gateway, where nobody may be yet. Empty means that there are no
	// hosts.
	Outside string
	// ConfigFile is ssh's (ssh_config(5)); empty means the user's own and the system's.
	ConfigFile string
	// Program is ssh with its first arguments; empty means ssh.
	Program []string
	// Conflist is the conflist of the run, and BinDir has the plugins' binaries. Required.
	Conflist *conflist.File
	BinDir   string
	// Subnet is the underlay's network, by an address of which each machine's uplink is known; the zero value means
	// that of the conflist.
	Subnet netip.Prefix
	// Uplink is the interface's name on every machine where it is to be another than the one with an address in Subnet.
	Uplink string
	// Binary is the path of this program for an architecture, in the words of Go. Required.
	Binary func(arch string) (string, error)
	// Reboot is a command that reboots a machine, run there as root; empty means that machines must not be rebooted.
	Reboot []string
	// Log is told what takes some time, in a line; nil means nobody.
	Log func(text string)
}

// Backend is machines that are connected. Close it.
type Backend struct {
	options  Options
	machines []*machine
	outside  *machine // nil where there is none
	plugins  *plugins

	mu sync.Mutex
	// open are the clusters that were not closed, in the order of their start.
	open []*lab
	// dirty is set while the network of the machines may not be what it was.
	dirty bool
}

// Open connects to the machines and copies what they need. On an error nothing is left.
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
	// What the conflist does not fit is known before anything runs.
	nodes := make([]scenario.Node, 0, len(b.machines))
	for i := range b.machines {
		nodes = append(nodes, scenario.Node{Name: nodeName(i)})
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

// nodeName stands for a machine where no scenario names it.
func nodeName(i int) string { return string(rune('a' + i)) }

// Name returns "ssh".
func (b *Backend) Name() string { return "ssh" }

// Exclusive returns true: machines exist once.
func (b *Backend) Exclusive() bool { return true }

// Missing says why a scenario cannot run on these machines.
func (b *Backend) Missing(_ context.Context, needs scenario.Needs) error {
	if err := b.lost(); err != nil {
		return err
	}
	reboots := len(b.options.Reboot) > 0
	switch {
	case needs.Nodes > len(b.machines):
		return fmt.Errorf("it takes %d nodes, and --nodes names %d", needs.Nodes, len(b.machines))
	case len(needs.Hosts) > 0 && b.outside == nil:
		return fmt.Errorf("host/%s takes part, and the machines that ssh reaches are all nodes; name one more with "+
			"--outside", strings.Join(needs.Hosts, ", host/"))
	case needs.Routed && b.outside == nil:
		return errors.New("it has pods of a routed network, to which the router of the machines' LAN would have to " +
			"know the way; name a machine for it with --outside")
	case needs.Leases:
		return errors.New("the DHCP server of the machines' LAN does not tell what its clients do")
	case needs.Cloud:
		return errors.New("no cloud gives these machines further network interfaces and addresses during a run")
	case needs.Reboot && !reboots:
		return errors.New("it reboots a node; allow that with --reboot 'systemctl reboot'")
	case len(needs.Sysctls) > 0 && !reboots:
		return fmt.Errorf("it changes settings by which a machine can get out of reach (%s); allow that with "+
			"--reboot 'systemctl reboot'",
			strings.Join(needs.Sysctls, ", "))
	case needs.SecondNIC:
		for _, m := range b.machines {
			if uplink, err := b.uplinkOf(m); err == nil && len(m.management(uplink.Name)) == 0 {
				return fmt.Errorf("it takes two NICs, and %s has no address on another one than %s", m.name,
					uplink.Name)
			}
		}
	}
	return nil
}

// lost returns why a machine is out of reach.
func (b *Backend) lost() error {
	for _, m := range b.all() {
		if err := m.lost(); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the keepers, which restore their machines, and waits for that. Its error says what was not restored. It
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

// restore puts the networks of the machines back to what they were. The caller holds b.mu.
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

// restoreTimeout bounds what a cluster's end takes.
const restoreTimeout = 30 * time.Second

// closed notes the end of a cluster. When the last one ends the machines are put back; before that others use them.
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
