// Package e2e runs scenarios on a CNI plugin and says whether it does what users of underlay networks rely on.
//
// It takes a conflist and a directory of plugin binaries, and returns a report with a verdict. Run does everything in
// one test function, Describe adds the specs to a Ginkgo suite of the caller, and New returns the suite itself.
//
// It is not a test of Kubernetes or of a container runtime: it acts as the runtime itself, through libcni. It knows a
// plugin only by its conflist and its binary, and a cluster only by the backend that the caller passes in.
//
// Run its tests: make test-netns
package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/soak"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
	"github.com/cnitest/cnitest/scenarios"
)

// Options say what to test and how. Conflist, BinDir and Backend are required.
type Options struct {
	// Conflist is the path of the network configuration list, as a runtime would read it.
	Conflist string
	// Network is the name of the network to run if the file holds several NetworkAttachmentDefinitions; empty means the
	// only one.
	Network string
	// File is the content of Conflist, if the caller has read it already; nil means that New reads it.
	File *conflist.File
	// BinDir is the directory of the plugins' binaries, including those of plugins that they delegate to.
	BinDir string
	// OldBinDir is the directory of the programs of an earlier version, of plugins under test, their IPAM plugins or
	// the target's daemon; empty means none. It claims the feature Upgrade. The rest comes from BinDir.
	OldBinDir string
	// ImplementationVersion is the version of the project whose plugins are under test, for the report; empty means
	// that of the target file.
	ImplementationVersion string
	// Backend makes the clusters.
	Backend cluster.Backend

	// Profile is the set of features that the plugin must have; empty means scenario.ProfileUnderlay.
	Profile scenario.Profile
	// Claims are features beyond the profile. A scenario whose features are neither in the profile nor claimed does not
	// run.
	Claims []scenario.Feature
	// Plugins are the types of the plugins under test. Empty means all plugins of the chain that upstream does not
	// ship, or the first one if upstream ships all.
	Plugins []string
	// CNIVersion is the version of the CNI specification that the runtime knows; empty means all that Backend knows.
	// Plugins are then called at no later one, and not with verbs that came later.
	CNIVersion string
	// Target describes what each node runs beside the plugins, such as a daemon, and the cloud that the nodes are in;
	// nil means neither. A daemon claims the features DaemonRestart and DaemonIsolation, a cloud CloudENIs.
	Target *target.Target

	Select  Selection
	Soak    Soak
	Nodes   Nodes
	Observe Observer
	// Workers is the largest number of scenarios that run at the same time, each on a cluster of its own; 0 means four
	// for each processor, six with IPv6, since scenarios wait more than they compute. Fewer run while the machine is
	// busy. It is 1 if the backend uses machines that exist.
	Workers int

	// FailFast ends the run at the first failure of a plugin under test.
	FailFast bool

	// Like is the report of an earlier run, such as that of the version before. A failure in the same words as there is
	// believed at once, where others run a second time if the machine is busy; nil means that there is none.
	Like *report.Report

	// ReportDir receives report.json, report.html, report.md, junit.xml and the evidence of failures; empty means that
	// nothing is written.
	ReportDir string
	// Version is the version of the suite for the report.
	Version string
	// Repeat returns the command that repeats a failed result, for the report; nil means Options.Command.
	Repeat func(r report.Result) string
}

// Selection says which scenarios and requirements to run. The zero value selects all.
type Selection struct {
	// Scenarios are the scenario files; nil means those that come with the package.
	Scenarios fs.FS
	// Own are scenarios that run beside those, as scenario.LoadFiles reads them. Each has a name that no other one has.
	Own []*scenario.Scenario
	// Names are path.Match patterns of the scenarios and requirements to run, separated by commas; each must match one.
	// Empty means all.
	Names string
	// Quick leaves out what takes time: no plugin is killed or failed at every call, and no two calls take turns.
	Quick bool
	// Deep tries every case of the requirements that have many, instead of some. Seed chooses these.
	Deep bool
	Seed uint64
	// Replay is the only case of a requirement with many to try, and nothing else runs; nil means no such choice.
	Replay *contract.Token
	// Shard is the part of everything that is selected to run, if several runs share it; the zero value means all.
	Shard Shard
	// Failed is the report of an earlier run. Only what failed there or was blocked by a failure runs, and every
	// scenario if something was left on a node; nil means everything.
	Failed *report.Report
}

// Soak lets pods come and go instead of running scenarios and requirements.
type Soak struct {
	// For is how long pods come and go on two nodes while flows run: 0 for no soak, or at least a second. The soak ends
	// early if something fails.
	For time.Duration
	// Pods is the number of pods that come and go at the same time, on all nodes together; 0 means 20. A small range of
	// addresses allows fewer.
	Pods int
}

// Nodes describes the nodes and their network, as far as neither the conflist nor a scenario does.
type Nodes struct {
	// Uplink is the nodes' interface on the underlay, if the conflist does not name it or another is wanted.
	Uplink string
	// UplinkKind is the kind of that interface on nodes that the backend makes: "veth" (or empty), "bridge", "dummy" or
	// "vlan".
	UplinkKind string
	// Subnets are the networks of the LAN if the conflist does not name them, or larger ones around its own. Gateways
	// are further addresses of its router.
	Subnets  []netip.Prefix
	Gateways []netip.Addr
	// Lease is how long a lease of the lab's DHCP server lasts, if the conflist's IPAM plugin is dhcp; 0 means the
	// backend's default.
	Lease time.Duration
	// RPFilter is net.ipv4.conf.all.rp_filter of nodes whose scenario does not choose one, 0 to 2; nil means 2.
	RPFilter *int
	// NICs is the number of interfaces of such a node, 1 (or 0) or 2. With 2 the first is on a management network.
	NICs int
	// With is another network, to which pods of several networks are attached first; nil means one of the lab's own. It
	// claims the feature SeveralNetworks.
	With *conflist.File
	// Dataplane programs the services of scenarios: "nftables" (or empty), "iptables" if the nodes have the program,
	// "ipvs" if their kernels have it, or "kube-proxy", which is the program itself, in its mode nftables.
	Dataplane string
}

// Observer is told how a run proceeds, one call at a time. Each of its functions may be nil.
type Observer struct {
	// Started and Done are called for each scenario and requirement.
	Started func(u *Unit)
	Done    func(r report.Result)
	// Progress gets a line about a soak, or about the schedules of a deep run, every ten seconds.
	Progress func(text string)
	// Failed is called with a cluster in which a scenario failed, before anything is cleaned up. It may be called
	// concurrently.
	Failed func(r report.Result, c cluster.Cluster)
}

// load checks the options and reads the files.
func (o *Options) load() (*conflist.File, []*scenario.Scenario, error) {
	if o.Backend == nil {
		return nil, nil, errors.New("options: no backend; pass one, e.g. &netns.Backend{…}")
	}
	if o.Profile == "" {
		o.Profile = scenario.ProfileUnderlay
	}
	if !slices.Contains(scenario.Profiles(), o.Profile) {
		return nil, nil, fmt.Errorf("profile %q: want one of %v", o.Profile, scenario.Profiles())
	}
	for _, f := range o.Claims {
		if f.Meaning() == "" {
			return nil, nil, fmt.Errorf("feature %q: want one of %v", f, scenario.Features())
		}
	}
	o.claimTarget()
	if err := o.checkSoak(); err != nil {
		return nil, nil, err
	}
	file, err := o.readConflist()
	if err != nil {
		return nil, nil, err
	}
	if runtime, ok := o.Backend.(cluster.Versioned); ok && o.CNIVersion == "" {
		o.CNIVersion = runtime.CNIVersion()
	}
	if o.CNIVersion != "" {
		if file, err = file.At(o.CNIVersion); err != nil {
			return nil, nil, err
		}
		if o.Nodes.With != nil {
			o.Nodes.With, _ = o.Nodes.With.At(o.CNIVersion)
		}
	}
	o.claimDeclared(file)
	if o.Workers == 0 {
		o.Workers = o.defaultWorkers(file)
	}
	if cluster.IsExclusive(o.Backend) {
		o.Workers = 1
	}
	if err := o.checkBinaries(file); err != nil {
		return nil, nil, err
	}
	if err := o.choosePlugins(file); err != nil {
		return nil, nil, err
	}
	all, err := o.loadScenarios()
	return file, renamed(all, file), err
}

// readConflist returns the network of the conflist, and reads it unless the caller has.
func (o *Options) readConflist() (*conflist.File, error) {
	if o.File != nil {
		return o.File, nil
	}
	return conflist.LoadNetwork(o.Conflist, o.Network)
}

// A pod takes some tens of milliseconds of a processor to come and to leave. With an IPv6 address each ADD waits a
// second or two for duplicate address detection.
const (
	podWithIPv4 = 80 * time.Millisecond
	podWithIPv6 = 2 * time.Second
)

// podTakes returns about how long a pod takes to come and to leave.
func (o *Options) podTakes(file *conflist.File) time.Duration {
	plan, err := file.Plan(conflist.PlanOptions{
		Nodes: []conflist.PlanNode{{Name: "a"}}, Uplink: o.Nodes.Uplink,
	})
	if err == nil && slices.ContainsFunc(plan.LAN, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		return podWithIPv6
	}
	return podWithIPv4
}

// defaultWorkers returns the default of Workers: more if pods wait longer.
func (o *Options) defaultWorkers(file *conflist.File) int {
	if o.podTakes(file) == podWithIPv6 {
		return 6 * runtime.NumCPU()
	}
	return 4 * runtime.NumCPU()
}

func (o *Options) checkBinaries(file *conflist.File) error {
	info, err := os.Stat(o.BinDir)
	if err != nil {
		return fmt.Errorf("plugin binaries: %w; name their directory with --bin-dir", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("plugin binaries: %s is not a directory", o.BinDir)
	}
	err = file.MissingBinaries(o.BinDir)
	if o.Nodes.With != nil {
		err = errors.Join(err, o.Nodes.With.MissingBinaries(o.BinDir))
	}
	return err
}

func (o *Options) choosePlugins(file *conflist.File) error {
	if chain := file.Types(); len(o.Plugins) > 0 {
		for _, name := range o.Plugins {
			if !slices.Contains(chain, name) {
				return fmt.Errorf("plugin under test %q: want one of the chain %v", name, chain)
			}
		}
		return nil
	}
	o.Plugins = defaultPlugins(file)
	return nil
}

// loadScenarios returns all scenarios in the order of their names. The files of those that come with the package are in
// the folder scenarios, as people know them.
func (o *Options) loadScenarios() ([]*scenario.Scenario, error) {
	files, folder := o.Select.Scenarios, ""
	if files == nil {
		files, folder = scenarios.Files, "scenarios"
	}
	all, err := scenario.Load(files)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for _, sc := range all {
		sc.File = path.Join(folder, sc.File)
		known[sc.Name] = sc.File
	}
	for _, sc := range o.Select.Own {
		if file, taken := known[sc.Name]; taken {
			return nil, fmt.Errorf("%s: the scenario %s is that of %s, too; give it another name", sc.File,
				sc.Name, file)
		}
		known[sc.Name] = sc.File
	}
	all = append(all, o.Select.Own...)
	slices.SortFunc(all, func(a, b *scenario.Scenario) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// renamed returns the scenarios with the names of interfaces that the file's own pods want: net1 and net2 are those of
// the conflist's network.
func renamed(all []*scenario.Scenario, file *conflist.File) []*scenario.Scenario {
	names := map[string]string{}
	for i, name := range file.Interfaces {
		if i < 2 && !slices.Contains([]string{scenario.DefaultInterface, "net1", "net2"}, name) {
			names[fmt.Sprintf("net%d", i+1)] = name
		}
	}
	for i := range all {
		all[i] = all[i].Renamed(names)
	}
	return all
}

// claimTarget claims the features of the target's daemon and cloud: whoever names a daemon wants to know what happens
// while it is down.
func (o *Options) claimTarget() {
	if o.Target == nil {
		return
	}
	o.Claims = slices.Clone(o.Claims)
	if o.Target.Daemon != nil {
		o.Claims = append(o.Claims, scenario.DaemonRestart, scenario.DaemonIsolation)
	}
	if o.Target.Cloud != nil {
		o.Claims = append(o.Claims, scenario.CloudENIs)
	}
}

// checkSoak checks the options of a soak and sets their defaults.
func (o *Options) checkSoak() error {
	switch {
	case o.Soak.For != 0 && o.Soak.For < time.Second:
		return fmt.Errorf("soak of %s: want 1s or more", o.Soak.For)
	case o.Soak.Pods < 0:
		return fmt.Errorf("soak with %d pods: want 1 or more", o.Soak.Pods)
	case o.Soak.Pods == 0:
		o.Soak.Pods = soak.DefaultPods
	}
	return nil
}

// demands reports whether the plugin must have a feature.
func (o *Options) demands(f scenario.Feature) bool {
	return slices.Contains(o.Profile.Features(), f) || slices.Contains(o.Claims, f)
}
