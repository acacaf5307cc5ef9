package e2e

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/calltime"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/residue"
	"github.com/cnitest/cnitest/e2e/internal/runner"
	"github.com/cnitest/cnitest/e2e/internal/soak"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Suite runs the scenarios of one conflist. Its methods may be called concurrently.
type Suite struct {
	options Options
	file    *conflist.File
	plan
	started time.Time
	// podTakes is about how long a pod takes to come and to leave.
	podTakes time.Duration
	residue  *residue.Tracker
	times    *calltime.Recorder
	// try runs a unit once.
	try func(ctx context.Context, u *Unit, former *attempt, last bool) *attempt
	// stop ends the run for a reason; it does nothing before the run begins.
	stop context.CancelCauseFunc
	findings
}

// plan lists what to run.
type plan struct {
	// selection is the pattern by which scenarios were chosen; empty if all were. labelFilter chose among the units.
	selection, labelFilter string
	scenarios              []*scenario.Scenario
	// repeats is what an earlier run left to repeat; nil means everything.
	repeats *failures
	// upgraded are the programs of which Options.OldBinDir has an earlier version.
	upgraded []string
	old      *conflist.File // Target.OldConflist; nil without
	// stories contains the steps of the scenarios that the backend brings, by name.
	stories map[string]func(context.Context, cluster.Cluster) error
	// requirements are the selected ones, subjects the plugins that they are checked on.
	requirements []*contract.Requirement
	subjects     []*contract.Subject
}

// findings contains what a run has found so far.
type findings struct {
	// obstacle is the failure of the first attachment; nil if it succeeded.
	obstacle *report.Result
	// unfound says why it was not found what a first attachment leaves.
	unfound error
	// interrupted means that the run ended before all units had ended.
	interrupted bool

	mu       sync.Mutex // guards report, captures, spent and repeated
	report   report.Report
	captures map[string][]byte // files of packets by name, written at the end
	spent    []timing.Summary
	repeated []string // the units that ran again and had the same result
}

// New reads and checks everything that the options name. Its errors are mistakes that the caller can correct.
func New(options Options) (*Suite, error) {
	if asked := options; options.Repeat == nil {
		options.Repeat = func(r report.Result) string { return asked.Command(r.ID) }
	}
	file, all, err := options.load()
	if err != nil {
		return nil, err
	}
	s := &Suite{options: options, file: file, started: time.Now(), findings: findings{captures: map[string][]byte{}}}
	if s.plan, err = options.plan(all); err != nil {
		return nil, err
	}
	if earlier := options.Target.Earlier(); earlier != "" {
		if s.old, err = conflist.LoadNetwork(earlier, file.Network); err != nil {
			return nil, err
		}
	}
	if s.upgraded, err = options.upgraded(file); err != nil {
		return nil, err
	}
	s.try, s.times, s.stop, s.podTakes = s.attempt, &calltime.Recorder{}, func(error) {}, options.podTakes(file)
	s.residue = residue.New(residue.Config{
		Start: func(ctx context.Context, nodes []scenario.Node, chain scenario.Chain) (cluster.Cluster, error) {
			starting, end := timing.Begin(ctx, timing.Lab)
			defer end()
			return options.Backend.Start(starting, s.request(nodes, chain))
		},
		Runner: s.runnerConfig(), Shared: cluster.IsExclusive(options.Backend),
	})
	s.subjects = contract.Subjects(file, contract.Lab{
		Backend: options.Backend, Request: s.request([]scenario.Node{{Name: "a"}}, scenario.Chain{}), Times: s.times,
		Exploration: contract.Exploration{
			Deep: options.Select.Deep, Seed: options.Select.Seed, Replay: options.Select.Replay, Tell: s.tellProgress,
			Stopped: func(text string) { s.note("%s", text) },
		},
	})
	s.report = report.Report{
		APIVersion: report.APIVersion, Kind: report.Kind,
		Suite:          report.Suite{Version: options.Version},
		Implementation: report.Implementation{Conflist: options.Conflist, CNIVersion: file.CNIVersion},
		Profile:        string(options.Profile), Backend: options.Backend.Name(),
		Started: s.started.UTC().Truncate(time.Second),
		Results: []report.Result{}, Residue: []report.Residue{}, Notes: slices.Clone(file.Warnings),
	}
	for _, name := range file.Types() {
		plugin, err := report.DescribeProgram(filepath.Join(options.BinDir, name))
		if err != nil {
			return nil, err
		}
		plugin.UnderTest = slices.Contains(options.Plugins, name)
		s.report.Implementation.Plugins = append(s.report.Implementation.Plugins, plugin)
	}
	s.report.Implementation.Origin = options.origin()
	if s.repeats != nil && len(s.Units()) == 0 {
		return nil, fmt.Errorf("nothing of what failed in the earlier run (first %s) is selected here",
			s.repeats.results[0].ID)
	}
	return s, nil
}

// origin says whose plugins are under test.
func (o *Options) origin() report.Origin {
	var origin report.Origin
	if o.Target != nil && o.Target.Implementation != nil {
		origin = *o.Target.Implementation
	}
	origin.Version = cmp.Or(o.ImplementationVersion, origin.Version)
	return origin
}

// plan selects the scenarios, those that the backend brings, and the requirements.
func (o *Options) plan(scenarios []*scenario.Scenario) (plan, error) {
	p := plan{selection: o.Select.Names, stories: map[string]func(context.Context, cluster.Cluster) error{}}
	if o.Soak.For > 0 {
		p.selection = soak.ID
		p.scenarios = []*scenario.Scenario{soak.Scenario(o.Soak.Pods, o.demands(scenario.CrossNode))}
		return p, nil
	}
	// Requirements call a plugin without libcni, and change its node in ways that a cluster with a runtime must not
	// see.
	if !cluster.HasRuntime(o.Backend) {
		p.requirements = slices.DeleteFunc(contract.Requirements(), func(r *contract.Requirement) bool {
			return !r.Checked()
		})
	}
	for _, story := range cluster.StoriesOf(o.Backend) {
		p.stories[story.Name] = story.Run
		scenarios = append(scenarios, &scenario.Scenario{
			Name: story.Name, Description: story.Description, Features: story.Features, Covers: story.Covers,
			Nodes: environment.PlainNodes(),
		})
	}
	var err error
	if token := o.Select.Replay; token != nil {
		if !slices.Contains(o.Plugins, token.Plugin()) {
			return p, fmt.Errorf("token %s: %s is not under test; want one of %v", token, token.Plugin(), o.Plugins)
		}
		p.selection = "--replay " + o.Select.Replay.String()
	}
	if o.Select.Failed != nil {
		if p.repeats, err = failuresIn(o.Select.Failed); err != nil {
			return p, err
		}
		p.selection = strings.TrimSpace(p.selection + " what failed in an earlier run")
	}
	p.scenarios, p.requirements, err = o.choose(scenarios, p.requirements)
	return p, err
}

// Scenarios returns the selected scenarios.
func (s *Suite) Scenarios() []*scenario.Scenario { return s.scenarios }

// PluginsUnderTest returns the types of the plugins that the verdict is about.
func (s *Suite) PluginsUnderTest() []string { return s.options.Plugins }

func (s *Suite) request(nodes []scenario.Node, chain scenario.Chain) cluster.Request {
	nodes = slices.Clone(nodes)
	for i := range nodes {
		nodes[i].RPFilter = cmp.Or(nodes[i].RPFilter, s.options.Nodes.RPFilter)
		nodes[i].NICs = cmp.Or(nodes[i].NICs, s.options.Nodes.NICs)
	}
	return cluster.Request{
		Conflist: s.file, With: s.options.Nodes.With, BinDir: s.options.BinDir, Nodes: nodes, Chain: chain,
		Uplink: s.options.Nodes.Uplink, UplinkKind: s.options.Nodes.UplinkKind, Target: s.options.Target,
		Subnets: s.options.Nodes.Subnets, Gateways: s.options.Nodes.Gateways, Lease: s.options.Nodes.Lease,
	}
}

func (s *Suite) tellStarted(u *Unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Observe.Started != nil {
		s.options.Observe.Started(u)
	}
}

// tellProgress passes a line about a soak to the observer.
func (s *Suite) tellProgress(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Observe.Progress != nil {
		s.options.Observe.Progress(text)
	}
}

// note adds a note to the report.
func (s *Suite) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Notes = append(s.report.Notes, fmt.Sprintf(format, args...))
}

func (s *Suite) add(result report.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Results = append(s.report.Results, result)
	if s.options.Observe.Done != nil {
		s.options.Observe.Done(result)
	}
}

// runnerConfig returns what all scenarios of the run share.
func (s *Suite) runnerConfig() runner.Config {
	return runner.Config{
		With:     s.options.Nodes.With,
		Conflist: s.file, Target: s.options.Target, Dataplane: s.options.Nodes.Dataplane, Keep: s.keepCapture,
		Times: s.times, Upgraded: s.upgraded, Old: s.old,
	}
}

// keepCapture keeps a file of packets for the end of the run, and returns its path below the report's directory; an
// empty path if nothing is written or there is no packet.
func (s *Suite) keepCapture(id string, data []byte) string {
	if s.options.ReportDir == "" || len(data) == 0 {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := captureName(id)
	s.captures[name] = data
	return report.EvidenceDir + "/" + name
}

// dropCapture forgets the packets of a result that does not count.
func (s *Suite) dropCapture(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.captures, captureName(id))
}

func captureName(id string) string { return id + ".pcapng" }

// keepTimes keeps what the time of an attempt went to.
func (s *Suite) keepTimes(b *timing.Book) {
	b.End()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent = append(s.spent, b.Summary())
}

// Timings returns what the time of each unit went to, in the order in which they ended. A unit that ran twice is there
// twice.
func (s *Suite) Timings() []timing.Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.spent)
}
