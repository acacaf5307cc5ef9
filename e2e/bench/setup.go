package bench

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/internal/offer"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// beside returns upstream's plugins that are measured beside the chain under test, each with host-local.
func beside() []string { return []string{"ptp", "bridge", "macvlan"} }

// setUp starts a node for each chain, and attaches the pods that stand from the beginning.
func (b *bench) setUp(ctx context.Context) error {
	b.options.Tell("starting a node for each chain")
	tested, err := b.tested(ctx)
	if err != nil {
		return err
	}
	b.chains = append(b.chains, tested)
	noop, err := b.noop(ctx, tested)
	if err != nil {
		return err
	}
	b.chains = append(b.chains, noop)
	for _, plugin := range beside() {
		c, err := b.beside(ctx, plugin, version(tested.file))
		if err != nil {
			return err
		}
		if c != nil {
			b.chains = append(b.chains, c)
		}
	}
	b.doc.CNIVersion = version(tested.file)
	first := b.options.Attachments[0]
	if room := tested.room() - 1; first > room {
		b.doc.Notes = append(b.doc.Notes, fmt.Sprintf("%d attachments stand on each node from the beginning, not %d: "+
			"the conflist has addresses for %d pods.", max(0, room), first, tested.node.PoolSize))
		first = max(0, room)
		b.options.Attachments[0] = first
	}
	if err := b.fillAll(ctx, first); err != nil {
		return err
	}
	b.chains = b.present()
	for _, c := range b.chains {
		b.doc.Chains = append(b.doc.Chains, c.Chain)
	}
	return nil
}

// fillAll attaches the pods that stand from the beginning, on all nodes at the same time.
func (b *bench) fillAll(ctx context.Context, count int) error {
	failed := make([]error, len(b.chains))
	group, making := errgroup.WithContext(ctx)
	for i, c := range b.chains {
		group.Go(func() error {
			// Without these nothing can be measured, however long they take.
			failed[i] = c.fill(making, count, b.begin.Add(time.Hour))
			if c.Role == benchmark.Beside {
				return nil
			}
			return failed[i]
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, c := range b.chains {
		if err := b.leaveOut(c, failed[i]); err != nil {
			return err
		}
	}
	return nil
}

// leaveOut goes on without a chain of upstream's with which a call failed: a bridge has 1,024 ports (BR_MAX_PORTS in
// the kernel), which says nothing about the chain under test. It returns an error that is another's.
func (b *bench) leaveOut(c *chain, err error) error {
	var failed *CallError
	if c.Role != benchmark.Beside || !errors.As(err, &failed) {
		return err
	}
	c.close()
	b.miss(fmt.Sprintf("%s, from %d attachments on", c.Name, c.standing), failed.Err.Error())
	return nil
}

// present returns the chains that are not left out.
func (b *bench) present() []*chain {
	return slices.DeleteFunc(slices.Clone(b.chains), (*chain).out)
}

// cycle runs a cycle of a chain. It returns nothing if the chain is left out, now or before.
func (b *bench) cycle(ctx context.Context, c *chain, pods int) ([]agent.RoundVerb, error) {
	if c.out() {
		return nil, nil
	}
	done, err := c.cycle(ctx, pods)
	return done, b.leaveOut(c, err)
}

// addresses is how many a cloud needs for its largest node: those of the attachments, those of all callers, and as many
// again several times, since a daemon does not give a released address to another pod at once.
func (o Options) addresses() int {
	const spare, rounds = 64, 4
	most := 1
	for _, n := range o.Callers {
		most = max(most, n)
	}
	return o.Attachments[len(o.Attachments)-1] + rounds*most + spare
}

// tested starts the node of the chain under test.
func (b *bench) tested(ctx context.Context) (*chain, error) {
	req := b.options.Request
	node := b.options.Node
	node.Name = "a"
	if req.Target != nil && req.Target.Cloud != nil {
		node.Addresses = b.options.addresses()
	}
	req.Nodes, req.Alone = append(req.Nodes, node), true
	started, err := b.options.Backend.Start(ctx, req)
	if err != nil {
		return nil, err
	}
	c := &chain{
		file: req.Conflist, cluster: started, node: started.Nodes()[0], desk: offer.NewDesk(),
	}
	c.conflist, c.binDirs, c.verbs = c.node.Conflist, c.node.BinDirs, verbsOf(c.file)
	c.Chain = benchmark.Chain{Name: chainName(req.Conflist), Role: benchmark.Tested}
	c.Plugins, err = binaries(req.BinDir, req.Conflist)
	for _, note := range started.Notes() {
		if !slices.Contains(b.doc.Notes, note) {
			b.doc.Notes = append(b.doc.Notes, note)
		}
	}
	return c, err
}

// version returns the version at which a runtime runs a file: without one, the oldest.
func version(f *conflist.File) string { return cmp.Or(f.CNIVersion, "0.1.0") }

// chainName joins the plugins of a file: "macvlan + host-local + route".
func chainName(f *conflist.File) string {
	var names []string
	for _, p := range f.Plugins {
		names = append(names, p.Type)
		if p.IPAM != "" {
			names = append(names, p.IPAM)
		}
	}
	return strings.Join(names, " + ")
}

// noop returns a chain that does nothing on the node of another one: upstream's static without an address, which is a
// plugin on the package skel that prints a result, or else a program of cnitest's own.
func (b *bench) noop(ctx context.Context, on *chain) (*chain, error) {
	c := *on
	c.cluster, c.desk = nil, offer.NewDesk()
	c.Chain = benchmark.Chain{Name: "noop", Role: benchmark.Nothing}
	plugin, ipam := "static", map[string]any{"type": "static"}
	version := version(on.file)
	if _, err := os.Stat(filepath.Join(b.options.Request.BinDir, plugin)); err != nil {
		plugin, ipam = stub.IPAM, map[string]any{"type": stub.IPAM, stub.Key: map[string]any{}}
		if err := on.node.Agent.InstallStubs(ctx); err != nil {
			return nil, err
		}
		c.binDirs = append(slices.Clone(on.binDirs), stub.Dir)
		b.doc.Notes = append(b.doc.Notes, fmt.Sprintf("noop is a program of cnitest itself, which takes longer to "+
			"start than a small plugin: there is no upstream plugin static in %s.", b.options.Request.BinDir))
	}
	var err error
	if c.conflist, err = list("noop", version, map[string]any{"type": plugin, "ipam": ipam}); err != nil {
		return nil, err
	}
	if c.file, err = conflist.Parse("noop", c.conflist); err != nil {
		return nil, err
	}
	c.Plugins, err = binaries(b.options.Request.BinDir, c.file)
	return &c, err
}

// beside starts a node for one of upstream's plugins; nil if its binary or host-local is not there.
func (b *bench) beside(ctx context.Context, plugin, version string) (*chain, error) {
	dir := b.options.Request.BinDir
	text, err := upstream(plugin, version)
	if err != nil {
		return nil, err
	}
	file, err := conflist.Parse(plugin, text)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{plugin, "host-local"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			b.miss(plugin, fmt.Sprintf("%s is not in %s", name, dir))
			return nil, nil
		}
	}
	node := b.options.Node
	node.Name = "a"
	req := cluster.Request{Conflist: file, BinDir: dir, Alone: true}
	req.Nodes = append(req.Nodes, node)
	started, err := b.options.Backend.Start(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", plugin, err)
	}
	c := &chain{file: file, cluster: started, node: started.Nodes()[0], desk: offer.NewDesk()}
	c.conflist, c.binDirs, c.verbs = c.node.Conflist, c.node.BinDirs, verbsOf(file)
	c.Chain = benchmark.Chain{Name: "upstream's " + plugin, Role: benchmark.Beside}
	if c.Plugins, err = binaries(dir, file); err != nil {
		return c, err
	}
	// A kernel may lack what one of them needs, which says nothing of the chain under test.
	if _, err := c.cycle(ctx, 1); err != nil {
		c.close()
		if ctx.Err() != nil {
			return nil, err
		}
		b.miss(plugin, err.Error())
		return nil, nil
	}
	return c, nil
}

// binaries returns the plugins of a chain, with those that they delegate to.
func binaries(dir string, f *conflist.File) (list []benchmark.Plugin, err error) {
	for _, name := range strings.Split(chainName(f), " + ") {
		if slices.ContainsFunc(list, func(p benchmark.Plugin) bool { return p.Type == name }) {
			continue
		}
		p := benchmark.Plugin{Type: name}
		path := filepath.Join(dir, name)
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && name == stub.IPAM {
			path = "/proc/self/exe"
			file, err = os.Open(path)
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		p.SizeBytes, err = io.Copy(sum, file)
		_ = file.Close()
		if err != nil {
			return nil, err
		}
		p.SHA256 = hex.EncodeToString(sum.Sum(nil))
		list = append(list, p)
	}
	return list, nil
}
