package e2e

import (
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
)

// Suite runs the scenarios of one conflist. Its methods may be called concurrently.
type Suite struct {
	options   Options
	file      *conflist.File
	scenarios []*scenario.Scenario
	// stories are the steps of scenarios that the backend tells, by name.
	stories map[string]func(context.Context, cluster.Cluster) error
	// requirements are those that were chosen, subjects the plugins that are asked.
	requirements []*contract.Requirement
	subjects     []*contract.Subject

	started   time.Time
	selection string // how scenarios were chosen; empty when all were
	// interrupted is set where the run ended before all units had.
	interrupted bool

	searches singleflight.Group // for residues

	mu         sync.Mutex
	report     report.Report
	leftovers  []leftover
	uncompared []string // why nodes could not be compared at the end of scenarios
	leftRuns   int      // how many scenarios were looked at for leftovers
	residues   map[string]*residue
	captures   map[string][]byte // files of packets by name, written at the end
}

// New reads and checks everything that the options name. Its errors are the caller's to mend.
func New(options Options) (*Suite, error) {
	file, all, err := options.load()
	if err != nil {
		return nil, err
	}
	requirements := slices.DeleteFunc(contract.Requirements(), func(r *contract.Requirement) bool { return !r.Checked() })
	if cluster.HasRuntime(options.Backend) {
		// They ask a plugin past libcni, whatever the cluster, and leave its node as no cluster may have it.
		requirements = nil
	}
	stories := map[string]func(context.Context, cluster.Cluster) error{}
	for _, story := range cluster.StoriesOf(options.Backend) {
		stories[story.Name] = story.Run
		all = append(all, &scenario.Scenario{
			Name: story.Name, Description: story.Description, Features: story.Features, Covers: story.Covers, Nodes: plainNodes(),
		})
	}
	all, requirements, err = options.choose(all, requirements)
	if err != nil {
		return nil, err
	}
	selection := options.Names
	if options.Soak > 0 {
		all, requirements, selection = []*scenario.Scenario{options.soakStory()}, nil, SoakID
	}
	s := &Suite{
		options: options, file: file, scenarios: all, requirements: requirements, started: time.Now(), selection: selection,
		residues: map[string]*residue{}, captures: map[string][]byte{}, stories: stories,
	}
	s.subjects = contract.Subjects(file, contract.Lab{Backend: options.Backend, Request: s.request([]scenario.Node{{Name: "a"}}, scenario.Chain{})})
	s.report = report.Report{
		APIVersion: report.APIVersion, Kind: report.Kind,
		Suite:          report.Suite{Version: options.Version},
		Implementation: report.Implementation{Conflist: options.Conflist, CNIVersion: file.CNIVersion},
		Profile:        string(options.Profile), Backend: options.Backend.Name(), Started: s.started.UTC().Truncate(time.Second),
		Results: []report.Result{}, Residue: []report.Residue{}, Notes: slices.Clone(file.Warnings),
	}
	for _, name := range file.Types() {
		plugin, err := describePlugin(filepath.Join(options.BinDir, name))
		if err != nil {
			return nil, err
		}
		plugin.UnderTest = slices.Contains(options.Plugins, name)
		s.report.Implementation.Plugins = append(s.report.Implementation.Plugins, plugin)
	}
	return s, nil
}

func describePlugin(file string) (report.Plugin, error) {
	plugin := report.Plugin{Type: filepath.Base(file)}
	data, err := os.ReadFile(file)
	if err != nil {
		return plugin, err
	}
	sum := sha256.Sum256(data)
	plugin.SHA256 = hex.EncodeToString(sum[:])
	// A plugin need not be written in Go.
	if info, err := buildinfo.ReadFile(file); err == nil {
		plugin.Version = info.Main.Version
		for _, dep := range info.Deps {
			// Built as a dependency, the program's own module is among the dependencies of the main one.
			if len(info.Path) > len(dep.Path) && info.Path[:len(dep.Path)+1] == dep.Path+"/" {
				plugin.Version = dep.Version
			}
		}
	}
	return plugin, nil
}

// fileOf is where a scenario stands, for people: those that come with the package in its folder.
func (s *Suite) fileOf(sc *scenario.Scenario) string {
	if s.options.Scenarios == nil {
		return "scenarios/" + sc.File
	}
	return sc.File
}

// Scenarios are those that were chosen.
func (s *Suite) Scenarios() []*scenario.Scenario { return s.scenarios }

// PluginsUnderTest are the types that the verdict is about.
func (s *Suite) PluginsUnderTest() []string { return s.options.Plugins }

// linkKinds are the links that upstream plugins make, to tell a kernel that lacks one from a plugin that fails.
func linkKinds() map[string]string {
	return map[string]string{
		"macvlan": "macvlan", "ipvlan": "ipvlan", "bridge": "bridge", "vlan": "vlan", "vrf": "vrf", "dummy": "dummy", "ptp": "veth",
	}
}

// Prepare makes a first cluster and finds out whether scenarios can run at all, and what a first attachment leaves on a node.
// An *UnfitError says that they cannot.
func (s *Suite) Prepare(ctx context.Context) error {
	c, err := s.options.Backend.Start(ctx, s.request(plainNodes(), scenario.Chain{}))
	if err != nil {
		return &UnfitError{Reason: err.Error()}
	}
	defer c.Close()
	var kinds []string
	for _, name := range s.file.Types() {
		if kind, ok := linkKinds()[name]; ok {
			kinds = append(kinds, kind)
		}
	}
	if kind := s.options.UplinkKind; kind == "dummy" || kind == "vlan" {
		kinds = append(kinds, kind)
	}
	for _, node := range c.Nodes() {
		missing, err := node.Agent.LinkKinds(ctx, kinds)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			return &UnfitError{Reason: fmt.Sprintf("%s: the kernel has no links of kind %v, which %s needs; load the module or use another kernel",
				node.Name, missing, s.options.Conflist)}
		}
	}
	hello, err := c.Nodes()[0].Agent.Hello(ctx)
	if err != nil {
		return err
	}
	s.report.Kernel = hello.Kernel
	s.report.Notes = append(s.report.Notes, c.Notes()...)
	s.report.Lab = labOf(c)
	found, err := s.residueOf(ctx, plainNodes(), scenario.Chain{}, []string{""})
	if err != nil {
		return err
	}
	s.report.Residue = append(s.report.Residue, found.list...)
	return nil
}

func (s *Suite) request(nodes []scenario.Node, chain scenario.Chain) cluster.Request {
	nodes = slices.Clone(nodes)
	for i := range nodes {
		nodes[i].RPFilter = cmp.Or(nodes[i].RPFilter, s.options.RPFilter)
		nodes[i].NICs = cmp.Or(nodes[i].NICs, s.options.NICs)
	}
	return cluster.Request{
		Conflist: s.file, BinDir: s.options.BinDir, Nodes: nodes, Chain: chain,
		Uplink: s.options.Uplink, UplinkKind: s.options.UplinkKind, Target: s.options.Target,
		Subnets: s.options.Subnets, Gateways: s.options.Gateways,
	}
}

// Run runs one scenario on a cluster of its own and adds its result to the report, unless ctx ended before the result was known.
func (s *Suite) Run(ctx context.Context, sc *scenario.Scenario) report.Result {
	level := report.Extended
	if s.options.Profile.Core(sc) {
		level = report.Core
	}
	result := report.Result{ID: sc.Name, Kind: "scenario", Plugin: report.Chain, Level: level, Covers: slices.Clone(sc.Covers)}
	s.tellStarted(&Unit{ID: sc.Name, scenario: sc})
	start := time.Now()
	if outcome, reason := s.exclude(ctx, sc, level); outcome != "" {
		result.Result, result.Reason = outcome, reason
	} else {
		s.execute(ctx, sc, &result)
	}
	result.DurationSeconds = seconds(time.Since(start))
	if result.Reason == cutOff {
		return result
	}
	s.add(result)
	return result
}

// cutOff is the reason of a result that is none: what the end of the run cut off says nothing.
const cutOff = "the run was stopped"

func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond)) / float64(time.Second)
}

// exclude says why a scenario is not run.
func (s *Suite) exclude(ctx context.Context, sc *scenario.Scenario, level string) (report.Outcome, string) {
	if level == report.Extended {
		for _, f := range sc.Features {
			if !slices.Contains(s.options.Profile.Features(), f) && !slices.Contains(s.options.Claims, f) {
				return report.NotClaimed, fmt.Sprintf("feature %s is not in profile %s and not claimed", f, s.options.Profile)
			}
		}
	}
	if outcome, reason := s.options.withoutTarget(sc); outcome != "" {
		return outcome, reason
	}
	noIPAM := !slices.ContainsFunc(s.file.Plugins, func(p conflist.Plugin) bool { return p.IPAM != "" })
	if noIPAM && slices.ContainsFunc(sc.Steps, func(step scenario.Step) bool { return step.Release != "" }) {
		return report.NotApplicable, "no plugin of the chain has an IPAM plugin, of which an address could be released"
	}
	needs := sc.Needs()
	if err := s.options.Backend.Missing(ctx, needs); err != nil {
		var beyond *cluster.BeyondError
		if errors.As(err, &beyond) {
			return report.NotApplicable, err.Error()
		}
		return report.Skipped, err.Error()
	}
	if s.options.UplinkKind == "dummy" && (needs.Nodes > 1 || len(needs.Hosts) > 0) {
		return report.Skipped, "a dummy uplink leads nowhere: other nodes and hosts are out of reach"
	}
	for _, plugin := range needs.Plugins {
		if _, err := os.Stat(filepath.Join(s.options.BinDir, plugin)); err != nil {
			return report.Skipped, fmt.Sprintf("plugin %s, which the scenario adds to the chain, is not in %s", plugin, s.options.BinDir)
		}
	}
	return "", ""
}

// missingProgram says which program an upstream plugin of the scenario's chain, or the dataplane of its services, calls and a node
// has not.
func (s *Suite) missingProgram(ctx context.Context, sc *scenario.Scenario, c cluster.Cluster) (string, error) {
	type caller struct {
		name     string
		programs []string // one of them is enough
	}
	var callers []caller
	for _, plugin := range sc.Needs().Plugins {
		if plugin == "portmap" || plugin == "firewall" {
			// Both prefer iptables wherever their configuration does not choose, and fail without it.
			callers = append(callers, caller{"plugin " + plugin, []string{"iptables"}})
		}
	}
	if len(sc.Services) > 0 && s.options.Dataplane == service.Iptables {
		callers = append(callers, caller{"the iptables dataplane", []string{"iptables-restore"}})
	}
	for _, caller := range callers {
		for _, node := range c.Nodes() {
			found, err := node.Agent.Programs(ctx, caller.programs)
			if err != nil {
				return "", err
			}
			if len(found) == 0 {
				return fmt.Sprintf("%s: %s calls %s, which is not installed", node.Name, caller.name, strings.Join(caller.programs, " or ")), nil
			}
		}
	}
	return "", nil
}

// scenarioTimeout ends a scenario that hangs; none takes a quarter of it.
const scenarioTimeout = 2 * time.Minute

// remoteTimeout is what a scenario may take longer on machines that are there: they may be emulated, and reboot for real.
const remoteTimeout = 8 * time.Minute

// execute runs the steps, or the soak, and what always follows them.
func (s *Suite) execute(ctx context.Context, sc *scenario.Scenario, result *report.Result) {
	failed := false
	defer func(ctx context.Context) {
		// A failure that was seen before the end stays one.
		if ctx.Err() != nil && !failed {
			result.Result, result.Reason, result.Evidence, result.LabFailed = report.Skipped, cutOff, nil, false
		}
	}(ctx)
	limit, play := scenarioTimeout+s.options.Soak, (*run).steps
	if cluster.IsExclusive(s.options.Backend) {
		limit += remoteTimeout
	}
	if s.options.Soak > 0 {
		play = (*run).soak
	}
	if tell := s.stories[sc.Name]; tell != nil {
		play = func(r *run, ctx context.Context) error { return tell(ctx, r.env.Cluster) }
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("scenario took longer than %s", limit))
	defer cancel()
	c, err := s.options.Backend.Start(ctx, s.request(sc.Nodes, sc.Chain))
	if err != nil {
		result.LabFails(err)
		return
	}
	defer c.Close()
	defer excuse(c, result)
	if reason, err := s.missingProgram(ctx, sc, c); err != nil || reason != "" {
		result.Result, result.Reason = report.Skipped, reason
		if err != nil {
			result.LabFails(err)
		}
		return
	}
	r := newRun(s, sc, c)
	if err := r.prepare(ctx); err != nil {
		// No plugin was called yet: whatever it is, it is none of theirs.
		result.LabFails(fmt.Errorf("the lab could not be made: %w", err))
		return
	}
	err = play(r, ctx)
	r.judge(ctx, err, result)
	r.askCluster(ctx, result)
	var found *environment.Failure
	soaked := errors.As(err, &found) && found.Step == nil
	failed = result.Result == report.Fail && (ctx.Err() == nil || soaked)
	// What failed since it was cut off is nothing to look at; one that took too long is.
	if result.Result == report.Fail && s.options.Failed != nil && !errors.Is(ctx.Err(), context.Canceled) {
		s.options.Failed(*result, c)
	}
	if ctx.Err() == nil {
		r.cleanUp(ctx, result)
	}
}

// excuse makes a failure no result where a machine does not answer any more: what was seen there is nothing that a plugin did.
func excuse(c cluster.Cluster, result *report.Result) {
	losable, ok := c.(cluster.Losable)
	if !ok || result.Result != report.Fail {
		return
	}
	if err := losable.Lost(); err != nil {
		result.LabFails(err)
	}
}

func (s *Suite) tellStarted(u *Unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Started != nil {
		s.options.Started(u)
	}
}

// tellProgress tells whoever wants to know how a soak goes.
func (s *Suite) tellProgress(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Progress != nil {
		s.options.Progress(text)
	}
}

// note adds to the notes of the report.
func (s *Suite) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Notes = append(s.report.Notes, fmt.Sprintf(format, args...))
}

func (s *Suite) add(result report.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Results = append(s.report.Results, result)
	if s.options.Done != nil {
		s.options.Done(result)
	}
}

// unfit ends a run that this machine cannot do, with a report that says so.
func (s *Suite) unfit(reason error) error {
	s.report.Verdict = report.EnvUnfit
	s.report.Notes = append(s.report.Notes, reason.Error())
	s.report.DurationSeconds = seconds(time.Since(s.started))
	if s.options.ReportDir == "" {
		return nil
	}
	return s.report.WriteDir(s.options.ReportDir)
}

// featurePrefix is what the ids of results about features that no scenario tests start with.
const featurePrefix = "feature-"

// untested are results for what a conformant plugin needs and this run did not look at, so that silence is no conformance.
func (s *Suite) untested() []report.Result {
	if s.selection != "" {
		return nil
	}
	var results []report.Result
	for _, f := range s.options.Profile.Features() {
		if slices.ContainsFunc(s.scenarios, func(sc *scenario.Scenario) bool { return slices.Contains(sc.Features, f) }) {
			continue
		}
		results = append(results, report.Result{
			ID: featurePrefix + string(f), Kind: "requirement", Plugin: report.Chain, Level: report.Core, Result: report.Skipped, Covers: []string{},
			Reason: fmt.Sprintf("profile %s demands %s, and no scenario tests it", s.options.Profile, f),
		})
	}
	return results
}

// scores are those of a plugin, CHECK first.
func scores(subject *contract.Subject) []report.Score {
	var list []report.Score
	for _, verb := range []cni.Verb{cni.Check, cni.Status} {
		score := subject.Scores()[verb]
		if score == nil {
			continue
		}
		s := report.Score{Plugin: subject.Type, Verb: string(verb), Noticed: score.Noticed(), Provoked: len(score.Provocations)}
		for _, p := range score.Provocations {
			if !p.Noticed {
				s.Missed = append(s.Missed, p.What)
			}
		}
		slices.Sort(s.Missed)
		list = append(list, s)
	}
	return list
}

// interrupt says in the report that it tells of a part of the units only.
func (s *Suite) interrupt(cause error, units []*Unit) {
	s.interrupted = true
	s.note("%v after %d of %d scenarios and requirements", cause, len(s.report.Results), len(units))
}

// Finish adds what can be said at the end only, judges, and writes the report where the options say. It is called once.
func (s *Suite) Finish() (*report.Report, error) {
	for _, result := range append(s.leavesNothing(), s.untested()...) {
		s.add(result)
	}
	for _, subject := range s.subjects {
		s.report.Scores = append(s.report.Scores, scores(subject)...)
		_ = subject.Close()
	}
	r := &s.report
	if s.selection != "" {
		r.Notes = append(r.Notes, "the verdict is that of a selection of scenarios: "+s.selection)
	}
	if s.options.Quick {
		r.Notes = append(r.Notes, "a quick run: no plugin was killed or failed at every call (KILL-ADD to FAIL-GC)")
	}
	slices.SortStableFunc(r.Results, func(a, b report.Result) int { return compareResults(a, b) })
	r.DurationSeconds = seconds(time.Since(s.started))
	if err := s.explainResults(); err != nil {
		return nil, err
	}
	r.Verdict = r.Judge()
	if s.interrupted && r.Verdict == report.Conformant {
		r.Verdict = report.Partial
	}
	if s.options.ReportDir == "" {
		return r, nil
	}
	return r, errors.Join(r.WriteDir(s.options.ReportDir), writeEvidence(s.options.ReportDir, r, s.captures))
}
