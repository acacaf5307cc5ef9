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

// fabrics keeps the fabrics of closed clusters for others: a switch that all cables were taken out of is as good as a
// new one, and saves a process and a bridge, whose end stops all who change links on the machine for a grace period of
// RCU (fabric.go, bridge). Only fabrics without hosts are kept, since nothing but the bridge is in them. It may be used
// concurrently.
type fabrics struct {
	mu   sync.Mutex
	idle []*idleFabric
}

type idleFabric struct {
	*machine
	end *time.Timer
}

const (
	// idleTime is how long a fabric waits for another cluster before it ends.
	idleTime = 2 * time.Second
	// mostIdle bounds how many wait: on a busy machine the kernel takes its time to remove cables.
	mostIdle = 16
)

// give keeps a fabric until somebody takes it, or ends it.
func (f *fabrics) give(m *machine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.idle) >= mostIdle {
		go m.close()
		return
	}
	idle := &idleFabric{machine: m}
	idle.end = time.AfterFunc(idleTime, func() {
		if f.remove(idle) {
			m.close()
		}
	})
	f.idle = append(f.idle, idle)
}

// remove reports whether the fabric was still there.
func (f *fabrics) remove(idle *idleFabric) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.Index(f.idle, idle)
	if at < 0 {
		return false
	}
	f.idle = slices.Delete(f.idle, at, at+1)
	return true
}

// take returns a fabric whose cables are gone and whose agent answers; nil if there is none.
func (f *fabrics) take(ctx context.Context) *machine {
	f.mu.Lock()
	waiting := slices.Clone(f.idle)
	f.mu.Unlock()
	for _, idle := range waiting {
		if !idle.unplugged() || !f.remove(idle) {
			continue
		}
		idle.end.Stop()
		if _, err := idle.agent.Hello(ctx); err == nil {
			return idle.machine
		}
		idle.close()
	}
	return nil
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
		if l.fabric = l.backend.fabrics.take(ctx); l.fabric != nil {
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
			l.backend.fabrics.give(l.fabric)
		default:
			l.fabric.close()
		}
	})
}
