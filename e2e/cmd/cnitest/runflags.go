package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/expectation"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
)

// runFlags are the flags of run.
type runFlags struct {
	binDir, oldBinDir  string
	backend, dataplane string
	claimFlags
	selectFlags
	howFlags
	outputFlags
	node   nodeFlags
	remote remoteFlags
	kind   kindFlags
	cri    criFlags
}

// claimFlags say what the verdict is about, and which results are expected.
type claimFlags struct {
	profile         string
	claims, plugins []string
	// version is that of the project under test; empty means that of the target file.
	version string
	// expect is a file, expected its content; nil without a file.
	expect   string
	expected *expectation.Expectation
}

// selectFlags say what to run.
type selectFlags struct {
	names           []string
	labels, section string
	quick           bool
	ownFlags
	raceFlags
	shardFlags
	soak     time.Duration
	soakPods int
	earlierFlags
}

// raceFlags say which schedules of two calls at once to try.
type raceFlags struct {
	deep bool
	seed uint64
	// replay is a token, replayed its content; nil without a token.
	replay   string
	replayed *contract.Token
}

// shardFlags say which part of the run this is.
type shardFlags struct {
	shard string
	// part is the parsed shard.
	part e2e.Shard
}

// howFlags say how to run it.
type howFlags struct {
	workers, repeat int
	cniVersion      string
	keep, failFast  bool
}

// outputFlags say what to print, and where.
type outputFlags struct {
	reportDir    string
	done         string
	reportFD     int
	each, strict bool
	timings      bool
}

func (f *runFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.binDir, "bin-dir", defaultBinDir,
		"directory of the plugins' binaries, including those they delegate to")
	flags.StringVar(&f.oldBinDir, "old-bin-dir", "",
		"directory with an earlier version of the plugins, their IPAM plugins or their daemon: run upgrades and "+
			"downgrades")
	flags.StringVar(&f.version, "implementation-version", "",
		"version of the project under test, for the report, e.g. v1.2.3 (default implementation.version of the "+
			"target file)")
	flags.StringVar(&f.backend, "backend", netnsBackend,
		"how to get nodes: netns makes them; cri starts a containerd on each; ssh uses machines that exist; kind uses "+
			"a Kubernetes cluster")
	flags.StringVar(&f.dataplane, "dataplane", service.Nftables,
		"what programs services on the nodes: nftables, iptables if it is installed, ipvs if the kernel has it, "+
			"or kube-proxy itself (make kubernetes node-programs)")
	f.claimFlags.add(flags)
	f.selectFlags.add(flags)
	f.howFlags.add(flags)
	f.outputFlags.add(flags)
	f.node.add(flags)
	f.node.network.addWith(flags)
	f.remote.add(flags)
	f.kind.add(flags)
	f.cri.add(flags)
}

func (f *claimFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.profile, "profile", string(scenario.ProfileUnderlay),
		"features that the plugin must have: cni, underlay, kubernetes, production or isolation")
	flags.StringSliceVar(&f.claims, "features", nil,
		"features claimed beyond the profile, or all (see cnitest list features)")
	flags.StringSliceVar(&f.plugins, "plugin", nil,
		"plugins under test (default: all plugins of the chain that upstream does not ship)")
	flags.StringVar(&f.expect, "expect", "",
		"file that lists what is known not to pass, and why: exit 0 if exactly that does not pass, else 1")
}

// features returns the claimed features, each once; the word all stands for all of them.
func (f *claimFlags) features() (claimed []scenario.Feature) {
	for _, text := range f.claims {
		named := []scenario.Feature{scenario.Feature(text)}
		if strings.EqualFold(text, "all") {
			named = scenario.Features()
		}
		for _, feature := range named {
			if !slices.Contains(claimed, feature) {
				claimed = append(claimed, feature)
			}
		}
	}
	return claimed
}

func (f *selectFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.names, "scenario", nil,
		"patterns of scenarios and requirements to run, e.g. 'del-*' or 'DEL-*,host-to-pod'")
	flags.StringArrayVar(&f.files, "scenario-file", nil,
		"scenario files of your own, or a directory of them, to run beside those that come with cnitest (see "+
			"cnitest validate); with --scenario NAME they run alone")
	flags.StringVar(&f.labels, "label-filter", "",
		"labels to run, in Ginkgo's language: features, failure modes, core, extended, contract, plugins")
	flags.StringVar(&f.section, "section", "",
		"run the requirements of a section of the CNI specification, e.g. 5 or 2.GC (see cnitest list sentences)")
	flags.BoolVar(&f.quick, "quick", false,
		"leave out the tests that kill the plugins under test at every call, make the call fail or answer it badly, "+
			"those of two calls that take turns, of a few in a row, and of power cuts")
	flags.BoolVar(&f.deep, "deep", false,
		"try every schedule of two calls at once (RACE-*), also with two stops, every bad answer (READ-*), every "+
			"short sequence of calls (SEQ-*), and every disk that a power cut may leave (POWER-*), also of plugins "+
			"that are not under test: minutes to hours")
	flags.Uint64Var(&f.seed, "seed", 1,
		"choice of the schedules, bad answers, sequences and disks that are tried, unless --deep tries all")
	flags.StringVar(&f.replay, "replay", "",
		"try one case of RACE-*, POWER-*, READ-*, SEQ-*, KILL-* or FAIL-*, by the token that a report shows, and "+
			"nothing else")
	flags.StringVar(&f.shard, "shard", "",
		"run the K-th of N parts, K/N such as 2/4; cnitest report merge puts the reports together. index/N is the "+
			"part of this pod of an indexed Job")
	f.earlierFlags.add(flags)
	flags.DurationVar(&f.soak, "soak", 0,
		"let pods come and go for that long, e.g. 10m, instead of running scenarios and requirements")
	flags.IntVar(&f.soakPods, "soak-pods", 20, "number of pods that come and go at once, on all nodes together")
}

func (f *howFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&f.workers, "workers", 0, "number of scenarios and requirements to run at the same time, fewer on a "+
		"busy machine (default four for each processor, six with IPv6)")
	flags.StringVar(&f.cniVersion, "cni-version", "",
		"newest version of the CNI specification that the runtime knows, e.g. 0.4.0 (default all)")
	flags.IntVar(&f.repeat, "repeat", 1,
		"number of times to run; fail if a result differs from that of the first run. The report of all runs names "+
			"those")
	flags.BoolVar(&f.failFast, "fail-fast", false, "end at the first failure of a plugin under test")
	flags.BoolVar(&f.keep, "keep-on-failure", false,
		"keep the lab of the first failed scenario, and print how to enter it")
}

func (f *outputFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.reportDir, "report-dir", "",
		"directory for report.json, report.html, report.md, junit.xml and the evidence of failures")
	flags.StringVar(&f.done, "done", "",
		"file that gets the path of the report's directory when the run has ended, however it ended, as Sonobuoy "+
			"wants it")
	flags.BoolVar(&f.each, "each", false,
		"print every failure with its reason, also if its cause was printed before, and everything that is blocked")
	flags.BoolVar(&f.timings, "timings", false,
		"print what the time of the run went to: by phase, and of the longest scenarios and requirements")
	flags.BoolVar(&f.strict, "strict", false, "exit 1 also if the verdict is partial")
	flags.IntVar(&f.reportFD, reportFDFlag, 0, "file descriptor for the report (for --repeat)")
	_ = flags.MarkHidden(reportFDFlag)
}
