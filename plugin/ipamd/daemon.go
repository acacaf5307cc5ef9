package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/eni"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/metadata"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/monitor"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/server"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/state"
)

// Cloud describes the machine's ENIs and addresses, and may change them.
type Cloud interface {
	Inventory(ctx context.Context) (cloud.Inventory, error)
	// Adjust takes a step that gives the machine more or fewer addresses, depending on how many of the pool are used,
	// and reports whether it took one.
	Adjust(ctx context.Context, inv cloud.Inventory, pool cloud.Pool) (bool, error)
}

// fixed is a cloud whose ENIs are never changed.
type fixed struct{ cloud.Source }

func (fixed) Adjust(context.Context, cloud.Inventory, cloud.Pool) (bool, error) { return false, nil }

// graceful limits how long calls may still run after the daemon was told to end.
const graceful = 5 * time.Second

type daemon struct {
	cfg     Config
	log     *slog.Logger
	file    *state.File
	store   *datastore.Store
	metrics *monitor.Metrics
	commits server.Committer
	cloud   Cloud
	node    *eni.Node     // nil if the kernel is not changed
	changed chan struct{} // receives a value after assignments and releases

	observed
}

// observed contains the last inventory of the cloud and the daemon's own state at that time.
type observed struct {
	mu     sync.Mutex
	inv    cloud.Inventory
	status monitor.Status
	// adjustWarning says why the cloud gives no more addresses; empty if it does.
	adjustWarning string
}

// newDaemon locks and restores the state.
func newDaemon(cfg Config, log *slog.Logger) (*daemon, error) {
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("boot ID: %w", err)
	}
	file, restored, err := state.Open(cfg.State, strings.TrimSpace(string(bootID)))
	if err != nil {
		return nil, err
	}
	store := datastore.New(datastore.Options{Cooling: cfg.Cooling})
	d := &daemon{
		cfg: cfg, log: log, file: file, store: store, metrics: monitor.NewMetrics(store),
		changed: make(chan struct{}, 1),
	}
	if err := store.Restore(restored); err != nil {
		file.Close()
		return nil, fmt.Errorf("state %s: %w; move it away once no pod of this node has an address of it", cfg.State,
			err)
	}
	d.commits = state.NewCommits(state.Options{Source: store, Saver: file, Observe: d.wrote})
	client := metadata.New(metadata.Options{Endpoint: cfg.Metadata.Endpoint, RequireToken: cfg.Metadata.RequireToken})
	d.cloud = cloudOf(cfg, log, client)
	return d, nil
}

// cloudOf returns the cloud of a configuration.
func cloudOf(cfg Config, log *slog.Logger, client *metadata.Client) Cloud {
	if cfg.Cloud == cloudMetadata {
		return fixed{client}
	}
	described := cloud.NewDescribed(cloud.DescribedOptions{
		Source: client, Credentials: client.IMDS(), Endpoint: cfg.EC2.Endpoint, Log: log,
	})
	if cfg.Cloud == cloudDescribe {
		return fixed{described}
	}
	return cloud.NewEC2(cloud.EC2Options{
		Source: described, Credentials: client.IMDS(), Endpoint: cfg.EC2.Endpoint,
		PrefixDelegation: cfg.EC2.PrefixDelegation, Targets: cfg.targets(), Log: log,
	})
}

func (d *daemon) wrote(w state.Write) {
	d.metrics.Wrote(w)
	if w.Err != nil {
		d.log.Error("state not written: plugins are asked to try again", "error", w.Err, "calls", w.Callers)
	}
}

// run serves until ctx ends, which is no error. The process keeps the state locked until it exits: on a disk that
// hangs, a write may still be running when run returns, and must not overlap with the next process.
func (d *daemon) run(ctx context.Context) error {
	if d.cfg.Kernel.Enabled {
		ns, err := kernel.Current()
		if err != nil {
			return err
		}
		defer ns.Close()
		k := d.cfg.Kernel
		d.node = eni.New(eni.Options{
			Namespace: ns, ExternalSNAT: k.ExternalSNAT, NodePorts: k.NodePorts, Mark: k.Mark,
			CheckSources: k.CheckSources, NoMetadata: !k.PodMetadata,
			VethPrefix: k.VethPrefix, MTU: k.MTU,
		})
	}
	stopMonitor, err := d.serveMonitor()
	if err != nil {
		return err
	}
	defer stopMonitor()
	if err := d.firstReconcile(ctx); err != nil {
		return nil // ended before it began
	}
	return d.servePlugins(ctx)
}

// serveMonitor serves state and metrics, even before plugins are served.
func (d *daemon) serveMonitor() (stop func(), err error) {
	if d.cfg.Introspection == "" {
		return func() {}, nil
	}
	listener, err := monitor.Listen(d.cfg.Introspection)
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: monitor.Handler(d.store, d.metrics, d.currentStatus), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("introspection ended", "error", err)
		}
	}()
	return func() { s.Close() }, nil
}

// firstReconcile tries until the cloud answers. It returns an error only if ctx ends.
func (d *daemon) firstReconcile(ctx context.Context) error {
	backoff := retry.NewExponentialJitterBackoff(30 * time.Second)
	for attempt := 0; ; attempt++ {
		err := d.reconcile(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		delay, delayErr := backoff.BackoffDelay(attempt, err)
		if delayErr != nil {
			delay = 30 * time.Second
		}
		d.log.Warn("not ready yet", "error", err, "again", delay.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
}

func (d *daemon) servePlugins(ctx context.Context) error {
	var users []uint32
	for _, user := range d.cfg.AllowedUsers {
		users = append(users, uint32(user))
	}
	s := server.New(server.Options{
		Store: d.store, Commits: d.commits, Network: d.network, Warnings: func() []string {
			return d.currentStatus().Warnings
		},
		Peers: server.Peers{UIDs: users, Refused: func(uid uint32) {
			d.metrics.Refused(uid)
			d.log.Warn("connection refused", "user", uid)
		}},
		Log: d.log, Intercept: d.metrics.Intercept, Changed: d.tell,
	})
	defer s.Stop()
	var listeners []net.Listener
	for _, path := range d.cfg.Sockets {
		listener, err := server.Listen(path)
		if err != nil {
			for _, other := range listeners {
				other.Close()
			}
			return err
		}
		listeners = append(listeners, listener)
	}
	ended := make(chan error, len(listeners))
	s.SetServing(true)
	for _, listener := range listeners {
		go func() { ended <- s.Serve(listener) }()
	}
	stats := d.store.Stats()
	d.log.Info("serving", "sockets", d.cfg.Sockets, "free", stats.Free, "assigned", stats.Assigned)
	loop, stopLoop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { d.follow(loop) })
	defer group.Wait()
	defer stopLoop()
	select {
	case err := <-ended:
		return fmt.Errorf("plugins are not served any more: %w", err)
	case <-ctx.Done():
	}
	d.log.Info("ending")
	s.SetServing(false)
	hard := time.AfterFunc(graceful, s.Stop)
	defer hard.Stop()
	s.GracefulStop()
	return nil
}

// tell wakes the loop that keeps addresses available. It never waits.
func (d *daemon) tell() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (d *daemon) network() server.Network {
	d.mu.Lock()
	defer d.mu.Unlock()
	var vpc []netip.Prefix
	for _, prefix := range d.inv.VPC {
		if prefix.Addr().Is4() == (d.cfg.IPFamily == ipv4) {
			vpc = append(vpc, prefix)
		}
	}
	return server.Network{VPC: vpc, ExternalSNAT: d.cfg.Kernel.ExternalSNAT}
}

func (d *daemon) currentStatus() monitor.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	status := d.status
	if d.adjustWarning != "" {
		status.Warnings = append(slices.Clone(status.Warnings), d.adjustWarning)
	}
	return status
}
