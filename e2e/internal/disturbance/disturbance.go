// Package disturbance records what a busy machine did to one scenario or requirement while it ran, so that no plugin
// is blamed for it.
//
// There are four signs: how late timers were, in this process and in the agents of the cluster; how many threads wanted
// each processor; what was lost or late over a plain veth pair (probe.Control) at the same time; and whether the
// kernel's table of neighbours was full. The first two are compared with two limits, the others count as they are. If a
// sign is beyond what an undisturbed run shows, a failure is doubtful, and the unit runs again, at last alone. If it
// fails again, the machine is to blame only if a sign is so strong that no plugin could have done better. Budgets are
// counted in time that the machine gave (package machinetime), so that between the two limits a failure is the
// plugin's: busy neighbours do not excuse a plugin that loses packets, sleeps or stops.
//
// Run its tests: go test ./e2e/internal/disturbance
package disturbance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// smallestBudget is the shortest time limit: for a reply, or for a request of a flow.
const smallestBudget = time.Second

// The limits of the first two signs.
const (
	// doubtfulLateness is a twentieth of the smallest budget. A request and its reply wake half a dozen threads; if
	// each is that late, they use up a third of it.
	doubtfulLateness = smallestBudget / 20
	// excusedLateness is a quarter of it: four threads that are that late use it up.
	excusedLateness = smallestBudget / 4
	// doubtfulLoad is the number of threads that may want each processor in an undisturbed run; package throttle keeps
	// a run below it.
	doubtfulLoad = 4
	// excusedLoad is the load at which a plugin that needs a tenth of its time alone may not finish.
	excusedLoad = 24
)

// Record is what is known about one run of a unit. Its methods may be called concurrently, and on nil, where they do
// nothing.
type Record struct {
	interval   machinetime.Interval
	neighbours map[byte]neighbourTable // at the beginning

	mu       sync.Mutex
	worst    time.Duration
	where    string
	controls []string
	progress machinetime.Interval // since the last event
	load     float64              // at the end; 0 before that, or if it is unknown
	ended    bool
}

type key struct{}

// Begin returns a context for one run of a unit, and its record.
func Begin(ctx context.Context) (context.Context, *Record) {
	now := machinetime.Start()
	r := &Record{interval: now, progress: now, neighbours: neighbourTables()}
	return context.WithValue(ctx, key{}, r), r
}

// Of returns the record of the unit that ctx belongs to, or nil.
func Of(ctx context.Context) *Record {
	r, _ := ctx.Value(key{}).(*Record)
	return r
}

// Control records what a control lost or received late, in words; an empty text means nothing.
func (r *Record) Control(text string) {
	if r == nil || text == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.controls = append(r.controls, text)
}

// Late records how late timers were, and where.
func (r *Record) Late(worst time.Duration, where string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if worst > r.worst {
		r.worst, r.where = worst, where
	}
}

// Ask asks all agents of a cluster how late they were. An agent that does not answer adds nothing.
func (r *Record) Ask(ctx context.Context, c cluster.Cluster) {
	if r == nil {
		return
	}
	ctx, cancel := machinetime.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	asked := map[*agent.Client]bool{}
	ask := func(p *cluster.Place) {
		if asked[p.Agent] {
			return
		}
		asked[p.Agent] = true
		if worst, err := p.Agent.Lateness(ctx, r.interval.Wall()); err == nil {
			r.Late(worst, "the agent of "+p.Name)
		}
	}
	for _, n := range c.Nodes() {
		ask(&n.Place)
	}
	for _, h := range c.Hosts() {
		ask(h)
	}
}

// Progress records that something ended: a step, a call, a probe.
func (r *Record) Progress() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = machinetime.Start()
}

// Idle returns for how long nothing has ended, in time that the machine gave.
func (r *Record) Idle() time.Duration {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress.Given()
}

// Finding is the conclusion from a record.
type Finding struct {
	// Doubtful means that the machine may have caused a failure, so that another run is useful.
	Doubtful bool
	// Excused means that a plugin may have failed only because of the machine.
	Excused bool
	// Lost means that a control lost something meanwhile: no plugin could have done better.
	Lost bool
	// Text describes what was seen; empty if nothing was.
	Text string
}

// End ends the recording: what the machine does from now on is not part of it. It may be called again.
func (r *Record) End() {
	worst, load := r.interval.Worst(), r.interval.Load()
	overflows := overflowed(r.neighbours, neighbourTables())
	r.mu.Lock()
	ended := r.ended
	r.ended = true
	if !ended {
		r.load = max(r.load, load)
		r.controls = append(r.controls, overflows...)
	}
	r.mu.Unlock()
	if !ended {
		r.Late(worst, "cnitest itself")
	}
}

// Include adds another record, whose results this unit uses.
func (r *Record) Include(other *Record) {
	if r == nil || other == nil {
		return
	}
	other.mu.Lock()
	worst, where, load, controls := other.worst, other.where, other.load, slices.Clone(other.controls)
	other.mu.Unlock()
	r.Late(worst, where)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load = max(r.load, load)
	r.controls = append(r.controls, controls...)
}

// SoFar returns the finding if nothing more happens.
func (r *Record) SoFar() Finding {
	worst, load := r.interval.Worst(), r.interval.Load()
	overflows := overflowed(r.neighbours, neighbourTables())
	r.mu.Lock()
	defer r.mu.Unlock()
	where := r.where
	if worst > r.worst {
		where = "cnitest itself"
	}
	return judge(max(worst, r.worst), where, max(load, r.load), slices.Concat(r.controls, overflows))
}

// Finding ends the record and returns its finding.
func (r *Record) Finding() Finding {
	r.End()
	r.mu.Lock()
	defer r.mu.Unlock()
	return judge(r.worst, r.where, r.load, r.controls)
}

func judge(worst time.Duration, where string, load float64, controls []string) Finding {
	f := Finding{
		Doubtful: worst >= doubtfulLateness || load >= doubtfulLoad || len(controls) > 0,
		Excused:  worst >= excusedLateness || load >= excusedLoad || len(controls) > 0,
		Lost:     len(controls) > 0,
	}
	var parts []string
	if len(controls) > 0 {
		parts = append(parts, controls[0])
	}
	if worst >= doubtfulLateness {
		parts = append(parts, fmt.Sprintf("%s was up to %s late", where, worst.Round(time.Millisecond)))
	}
	if load >= doubtfulLoad {
		parts = append(parts, fmt.Sprintf("%.0f threads wanted each processor", load))
	}
	f.Text = strings.Join(parts, ", ")
	return f
}
