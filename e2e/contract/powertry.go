package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/disk"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/report"
)

// disksTried is the number of disks that a run tries for each verb, unless it is deep. Each is tried once, with one of
// the two runtimes. A machine that exists takes a minute to boot, so that one must do.
const (
	disksTried           = 4
	disksTriedOnMachines = 1
)

// blackout is a disk, and the runtime that finds it.
type blackout struct {
	disk.Disk
	// cached means that the runtime still has its cache.
	cached bool
}

// String returns the part of a token that names it.
func (c blackout) String() string {
	if c.cached {
		return "cache:" + c.Disk.String()
	}
	return "no-cache:" + c.Disk.String()
}

// recovery is what happens after a power cut.
type recovery struct {
	blackout
	sequel
}

// sequel are calls that must succeed after something happened to a node.
type sequel struct {
	calls []cni.Call
	// wrong says what is wrong; empty if nothing is.
	wrong string
}

// powerCuts tries the disks of a verb.
func (t *trial) powerCuts(ctx context.Context, verb cni.Verb) error {
	if err := t.canFail(ctx); err != nil {
		return err
	}
	explored := &t.subject.lab.Exploration
	o, err := t.outage(ctx)
	if err != nil {
		return err
	}
	if len(o.Calls) == 0 {
		return notApplicable("%s writes nothing on the disk: what it keeps is gone after a reboot anyway",
			t.subject.Type)
	}
	disks := o.of(verb)
	if len(disks) == 0 {
		return notApplicable("%s changes nothing on the disk", verb)
	}
	all := blackouts(disks)
	most := disksTried
	if cluster.IsExclusive(t.subject.lab.Backend) {
		most = disksTriedOnMachines
	}
	chosen, err := o.choose(all, explored, most)
	if err != nil {
		return err
	}
	count := t.newTally("power cuts", len(chosen))
	if err := t.tryBlackouts(ctx, o, chosen, count); err != nil {
		return err
	}
	if explored.Replay == nil {
		t.note("%d of %d power cuts tried, from %d calls: %d disks, each found by two runtimes, seed %d", count.tried,
			len(all), len(o.Calls), len(disks), explored.Seed)
	}
	return nil
}

// blackouts returns each disk with each runtime.
func blackouts(disks []disk.Disk) (all []blackout) {
	for _, d := range disks {
		all = append(all, blackout{d, true}, blackout{d, false})
	}
	return all
}

// choose returns those that a run tries: all, the one of a token, or some.
func (o *outage) choose(all []blackout, explored *Exploration, most int) ([]blackout, error) {
	return choose(explored, all, blackout.String, func() []blackout { return o.sample(all, most, explored.Seed) })
}

// sample returns at most as many, in turns from each kind of damage, those first that promise most. The seed decides in
// a kind.
func (o *outage) sample(all []blackout, most int, seed uint64) (some []blackout) {
	random := rand.New(rand.NewPCG(seed, 0))
	kinds, ranks := map[string][]blackout{}, map[string]int{}
	var order []string
	for _, c := range all {
		kind := c.kind()
		ranks[kind] = o.rank(c)
		if kinds[kind] == nil {
			order = append(order, kind)
		}
		kinds[kind] = append(kinds[kind], c)
	}
	for _, kind := range order {
		list := kinds[kind]
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	slices.SortStableFunc(order, func(a, b string) int { return ranks[a] - ranks[b] })
	for len(some) < min(most, len(all)) {
		for _, kind := range order {
			if list := kinds[kind]; len(list) > 0 && len(some) < most {
				some, kinds[kind] = append(some, list[0]), list[1:]
			}
		}
	}
	return some
}

// kind names what is wrong with a disk, whatever the names of its files are.
func (c blackout) kind() string {
	var parts []string
	for _, d := range c.Damaged {
		parts = append(parts, d.What+" "+regexp.MustCompile(`[0-9a-f:.]*[0-9][0-9a-f:.]*`).ReplaceAllString(d.Path,
			"#"))
	}
	if len(c.Lost) > 0 {
		parts = append(parts, "lost")
	}
	return strings.Join(parts, ", ")
}

// rank is lower for disks that promise more: one damaged file that somebody will read, then names that are missing,
// then several, files that a later rename would have put in place, and in the end disks as a killed program leaves
// them.
func (o *outage) rank(c blackout) int {
	unfinished := func(d disk.Damage) bool {
		return slices.ContainsFunc(o.Calls, func(call disk.Call) bool {
			return call.Kind == disk.Rename && call.Path == d.Path
		})
	}
	switch {
	case c.Whole():
		return 4
	case slices.ContainsFunc(c.Damaged, unfinished):
		return 3
	case len(c.Damaged) == 1 && len(c.Lost) == 0:
		return 0
	case len(c.Damaged) == 0:
		return 1
	}
	return 2
}

// tryBlackouts tries disks on nodes side by side.
func (t *trial) tryBlackouts(ctx context.Context, o *outage, chosen []blackout, count *tally) error {
	group, ctx := errgroup.WithContext(ctx)
	lanes := t.subject.lab.limit(min(2, len(chosen)))
	for n := range lanes {
		group.Go(func() error {
			b, err := t.bench(ctx, small)
			if err != nil {
				return err
			}
			pristine, err := b.node.Agent.Disk(ctx)
			if err != nil {
				return err
			}
			for i := n; i < len(chosen); i += lanes {
				r, err := b.recover(ctx, o, pristine, chosen[i])
				if err != nil {
					return fmt.Errorf("%s: %w", chosen[i], err)
				}
				failed := r.wrong != ""
				count.tells(t, failed)
				if !failed {
					continue
				}
				if err := b.blames(ctx, o, pristine, r); err != nil {
					return err
				}
				if count.failures() >= evidenceShown {
					return nil
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// blames reports a failure, unless an orderly reboot fails as well.
func (b *bench) blames(ctx context.Context, o *outage, pristine []agent.File, r *recovery) error {
	orderly, err := b.recover(ctx, o, pristine, blackout{o.Final(), r.cached})
	if err != nil {
		return err
	}
	if orderly.wrong != "" {
		return notApplicable("also after a reboot with everything on the disk, which is no matter of power: %s",
			orderly.wrong)
	}
	b.reportBlackout(o, r)
	return nil
}

// recover boots a node with a disk, and calls the plugin as a runtime does.
func (b *bench) recover(ctx context.Context, o *outage, pristine []agent.File, c blackout) (*recovery, error) {
	r := &recovery{blackout: c}
	err := b.boot(ctx, pristine, c.Disk)
	if reason, ok := notBooted(err); ok {
		r.wrong = "the daemon does not start: " + reason
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	old := o.oldPods(c.After)
	if err := b.clearUp(ctx, r, old); err != nil || r.wrong != "" {
		return r, err
	}
	return r, b.fill(ctx, r)
}

// oldPods returns the pods that were attached, or began to be, with the results that the runtime has.
func (o *outage) oldPods(after int) (pods []*pod) {
	begin := 0
	for _, e := range o.ends {
		if e.verb == cni.Add && (begin == 0 || after > begin) {
			p := *e.pod
			if after < e.end {
				p.result = nil
			}
			pods = append(pods, &p)
		}
		begin = e.end
	}
	return pods
}

// clearUp calls GC and DEL of the old pods.
func (b *bench) clearUp(ctx context.Context, r *recovery, old []*pod) error {
	keeps, edits := []*pod{}, []func(*invocation){}
	if r.cached {
		keeps = old
	} else {
		edits = append(edits, withoutPrevResult)
	}
	if atLeast(b.version, "1.1.0") {
		if _, err := b.step(ctx, &r.sequel, "GC", cni.GC, nil, keeping(keeps...)); err != nil || r.wrong != "" {
			return err
		}
	}
	for _, p := range old {
		if _, err := b.step(ctx, &r.sequel, "DEL of "+p.name, cni.Del, p, edits...); err != nil || r.wrong != "" {
			return err
		}
		_ = b.release(ctx, p) // the others of the chain are not asked
	}
	return nil
}

// fill attaches as many pods as the node can have.
func (b *bench) fill(ctx context.Context, r *recovery) error {
	count := b.capacity()
	var pods []*pod
	for i := range count {
		p, err := b.pod(ctx, fmt.Sprintf("new-%d", i+1))
		if err != nil {
			return err
		}
		what := fmt.Sprintf("ADD of pod %d of %d", i+1, count)
		call, err := b.step(ctx, &r.sequel, what, cni.Add, p)
		if err != nil || r.wrong != "" {
			return err
		}
		if json.Valid([]byte(call.Stdout)) {
			pods = append(pods, p)
		}
		if addr := shared(pods); addr != "" && !b.subject.file.OneAddress() {
			r.wrong = fmt.Sprintf("%s gives the address %s, which another pod has", what, addr)
			return nil
		}
	}
	return nil
}

// patienceAfterBoot is how long a call may say after a boot that it wants to be tried again.
const patienceAfterBoot = 5 * time.Second

// step makes a call that must succeed.
func (b *bench) step(
	ctx context.Context, r *sequel, what string, verb cni.Verb, p *pod, edits ...func(*invocation),
) (cni.Call, error) {
	for interval := machinetime.Start(); ; {
		call, err := b.call(ctx, verb, p, edits...)
		if err != nil {
			return call, err
		}
		answer, ok := failure(call)
		if ok && answer.Code == tryAgain && call.ExitCode != 0 && interval.Given() < patienceAfterBoot {
			if err := timing.Sleep(ctx, 100*time.Millisecond); err != nil {
				return call, err
			}
			continue
		}
		r.calls = append(r.calls, call)
		if call.ExitCode != 0 {
			r.wrong = fmt.Sprintf("%s: want success, got %s", what, summary(call))
		}
		return call, nil
	}
}

// notes returns which calls of the workload had ended, by the number of calls on the disk until then.
func (o *outage) notes() map[int]string {
	notes := map[int]string{}
	for _, e := range o.ends {
		what := string(e.verb)
		if e.pod != nil {
			what += " of " + e.pod.name
		}
		if notes[e.end] != "" {
			what = notes[e.end] + ", " + what
		}
		notes[e.end] = what
	}
	for n, what := range notes {
		notes[n] = "ended: " + what
	}
	return notes
}

// reportBlackout reports what is wrong after a power cut.
func (b *bench) reportBlackout(o *outage, r *recovery) {
	token := b.token(r.blackout.String())
	runtime := "a runtime that lost its cache"
	if r.cached {
		runtime = "a runtime with its cache"
	}
	var s strings.Builder
	fmt.Fprintf(&s, "The power fails %s. Then %s: %s\n\n", r.Describe(&o.Recording), runtime, r.wrong)
	fmt.Fprintf(&s, "the calls on the disk:\n%s", r.List(&o.Recording, o.notes()))
	fmt.Fprintf(&s, "\n%s", token.again())
	for _, c := range r.calls {
		fmt.Fprintf(&s, "\nthen %s:\n%s\n", c.Verb, c.Transcript())
	}
	known := ""
	if b.subject.harmedByHostLocal(&o.Recording, &r.Disk) {
		known = hostLocalForgets
	}
	b.knownDeviation([]report.Evidence{{Title: token.String(), Text: s.String()}},
		token.named(fmt.Sprintf("the power fails %s; %s, %s", r.Describe(&o.Recording), runtime, r.wrong)),
		known)
}
