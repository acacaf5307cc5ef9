package netns

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
)

// pool keeps what closed clusters no longer need for others, which saves them the start. It may be used concurrently.
type pool[T interface{ close() }] struct {
	mu   sync.Mutex
	idle []*idle[T]
}

type idle[T any] struct {
	thing T
	end   *time.Timer
}

// mostIdle bounds how many wait: on a busy machine the kernel takes its time to remove cables.
const mostIdle = 16

// give keeps something until somebody takes it, at most for a time, or ends it.
func (p *pool[T]) give(thing T, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= mostIdle {
		go thing.close()
		return
	}
	kept := &idle[T]{thing: thing}
	kept.end = time.AfterFunc(wait, func() {
		if p.remove(kept) {
			thing.close()
		}
	})
	p.idle = append(p.idle, kept)
}

// remove reports whether something was still there.
func (p *pool[T]) remove(kept *idle[T]) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.Index(p.idle, kept)
	if at < 0 {
		return false
	}
	p.idle = slices.Delete(p.idle, at, at+1)
	return true
}

// take returns the first that fits, and whether there is one.
func (p *pool[T]) take(fits func(T) bool) (thing T, found bool) {
	p.mu.Lock()
	waiting := slices.Clone(p.idle)
	p.mu.Unlock()
	for _, kept := range waiting {
		if fits(kept.thing) && p.remove(kept) {
			kept.end.Stop()
			return kept.thing, true
		}
	}
	return thing, false
}

// idleFabric is how long a fabric waits for another cluster: a switch that all cables were taken out of is as good as a
// new one, and saves a process and a bridge, whose end stops all who change links on the machine for a grace period of
// RCU (fabric.go, bridge). Only fabrics without hosts are kept, since nothing but the bridge is in them.
const idleFabric = 2 * time.Second

// takeFabric returns a fabric whose cables are gone and whose agent answers; nil if there is none.
func (b *Backend) takeFabric(ctx context.Context) *machine {
	for {
		fabric, found := b.fabrics.take((*machine).unplugged)
		if !found {
			return nil
		}
		if _, err := fabric.agent.Hello(ctx); err == nil {
			return fabric
		}
		fabric.close()
	}
}

// unplugged reports whether a fabric has no links but its loopback and the underlay's bridge. It asks no netlink
// socket, where it would wait for all who change links.
func (m *machine) unplugged() bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", m.pid()))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		name, _, isLink := strings.Cut(strings.TrimSpace(line), ":")
		if isLink && name != "lo" && name != underlay {
			return false
		}
	}
	return true
}

// shared reports whether the cluster's fabric has nothing but a bridge, so that another cluster can have it afterwards.
func (l *lab) shared() bool { return l.req.Alone && l.cloud == nil && !l.leases() }

// startFabric starts the fabric, or takes one of an earlier cluster.
func (l *lab) startFabric(ctx context.Context) (err error) {
	if l.shared() {
		if l.fabric = l.backend.takeFabric(ctx); l.fabric != nil {
			return nil
		}
	}
	if l.fabric, err = l.startMachine(ctx, cluster.FabricName); err != nil {
		return err
	}
	// A bridge needs no addresses, and must not answer for anybody.
	return l.fabric.setSysctls(ctx, "", map[string]string{
		"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1",
	})
}

// closeFabric ends the fabric, or leaves it to another cluster. It may be called again.
func (l *lab) closeFabric() {
	l.closing.Do(func() {
		switch {
		case l.fabric == nil:
		case l.shared():
			l.backend.fabrics.give(l.fabric, idleFabric)
		default:
			l.fabric.close()
		}
	})
}
