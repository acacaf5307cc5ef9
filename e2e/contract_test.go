package e2e_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/share"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// allRequirements takes minutes. Without it each broken plugin is checked only against the requirements that it must
// fail, and a few others.
var (
	allRequirements = flag.Bool("all-requirements", false, "ask each broken plugin about all requirements")
	onlyDefect      = flag.String("defect", "",
		"ask only broken plugins with one of these defects, separated by commas")
	ofCases = flag.String("share", share.Default(),
		"run the K-th of N parts of what is broken on purpose, and of other tests with many cases: `K/N`")
)

// spoilt is a plugin with a defect and the requirements that must notice it.
type spoilt struct {
	plugin, defect string
	// chain is the conflist; empty means macvlan + host-local + route.
	chain []string
	// versions are the versions that the plugin advertises; empty means 1.1.0.
	versions string
	// fails are the requirements that the defect violates, each with a part of the reason.
	fails map[string]string
	// also are requirements that must fail as a consequence.
	also []string
	// may are requirements that sometimes fail as a consequence.
	may []string
	// skips are requirements that show nothing about such a plugin, each with a part of the reason.
	skips map[string]string
	// through are requirements whose calls show the defect to those that examine the calls of others.
	through []string
	// timed defects take time. What other tests do meanwhile can hide them, so they are tried up to three times, alone
	// as far as this test is concerned.
	timed bool
}

func (s *spoilt) name() string { return s.plugin + "/" + s.defect }

// bystanders returns requirements that are judged from a single attachment, which takes no additional time. Each broken
// plugin is checked against them, and must pass those that it is not said to fail.
func bystanders() []string {
	return []string{
		"CFG-5", "VER-4", "ADD-1", "ADD-2", "ADD-3", "RES-1", "RES-2", "RES-3", "RES-4", "RES-5", "DEL-1",
		"DEL-2", "DEL-4", "CHK-1", "C07", "EXE-1", "EXE-3",
	}
}

// install makes a directory with the plugins of a chain, one or more of which are wrapped and have the defects.
func install(t *testing.T, chain *conflist.File, defects map[string]string) string {
	t.Helper()
	b, dir := plugins(t), t.TempDir()
	link := func(from, as string) {
		t.Helper()
		if err := os.Link(filepath.Join(b.plugins, from), filepath.Join(dir, as)); err != nil {
			t.Fatal(err)
		}
	}
	link("nothing", "nothing")
	names := append(chain.Types(), "bridge", "ptp")
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		// The type in CFG-2 cannot be the name of a package.
		binary, _, _ := strings.Cut(name, "@")
		defect, wrapped := defects[name]
		switch {
		case wrapped:
			link("wrapper", name)
			link(binary, name+".real")
			if err := os.WriteFile(filepath.Join(dir, name+".defect"), []byte(defect), 0o644); err != nil {
				t.Fatal(err)
			}
		case binary != "nothing":
			link(binary, name)
		}
	}
	return dir
}

// ask checks one plugin of a chain against requirements. Those that examine the calls of others come last.
func ask(t *testing.T, chain []string, plugin string,
	defects map[string]string,
) func(wanted func(*contract.Requirement) bool) map[string]report.Result {
	t.Helper()
	file, err := conflist.Load(writeConflist(t, "", chain...))
	if err != nil {
		t.Fatal(err)
	}
	lab := contract.Lab{Backend: backend(), Request: cluster.Request{
		Conflist: file, BinDir: install(t, file, defects), Nodes: []scenario.Node{{Name: "a"}},
	}}
	subjects := contract.Subjects(file, lab)
	i := slices.IndexFunc(subjects, func(s *contract.Subject) bool { return s.Type == plugin })
	if i < 0 {
		t.Fatalf("plugin %s: not in the chain %v", plugin, file.Types())
	}
	subject := subjects[i]
	return func(wanted func(*contract.Requirement) bool) map[string]report.Result {
		defer subject.Close()
		results := map[string]report.Result{}
		for _, audits := range []bool{false, true} {
			for _, r := range contract.Requirements() {
				if r.Checked() && r.Of(subject.Role) && r.Audits() == audits && wanted(r) {
					results[r.ID] = subject.Check(context.Background(), r)
				}
			}
		}
		return results
	}
}

// sideBySide runs jobs in their order, a few at the same time, and returns a function that waits for one of them.
func sideBySide(t *testing.T, jobs []func()) (await func(i int)) {
	t.Helper()
	ends := make([]chan struct{}, len(jobs))
	for i := range jobs {
		ends[i] = make(chan struct{})
	}
	queue := make(chan int)
	var workers sync.WaitGroup
	for range most {
		workers.Go(func() {
			for i := range queue {
				leave := enterLab()
				jobs[i]()
				leave()
				close(ends[i])
			}
		})
	}
	workers.Go(func() {
		defer close(queue)
		for i := range jobs {
			queue <- i
		}
	})
	t.Cleanup(workers.Wait)
	return func(i int) { <-ends[i] }
}

func failed(r report.Result) bool { return r.Result == report.Fail || r.Result == report.Vacuous }

// TestBroken checks that the requirements notice each defect, and that no others fail. TestSweeps tests those that
// inject faults.
func TestBroken(t *testing.T) {
	t.Parallel()
	plugins(t)
	cases := slices.DeleteFunc(sharedOut(t, spoiled()), func(s spoilt) bool {
		return *onlyDefect != "" && !slices.Contains(strings.Split(*onlyDefect, ","), s.defect)
	})
	slices.SortStableFunc(cases, func(a, b spoilt) int {
		switch {
		case a.timed == b.timed:
			return 0
		case b.timed:
			return -1
		}
		return 1
	})
	results := make([]map[string]report.Result, len(cases))
	var jobs []func()
	for i, c := range cases {
		if !c.timed {
			run := c.ask(t)
			jobs = append(jobs, func() { results[i] = run() })
		}
	}
	await := sideBySide(t, jobs)
	for i, c := range cases {
		t.Run(c.name(), func(t *testing.T) {
			if c.timed {
				results[i] = c.askAgain(t)
			} else {
				await(i)
			}
			c.compare(t, results[i])
		})
	}
}

// ask prepares a run of the requirements that have to do with the defect.
func (s *spoilt) ask(t *testing.T) func() map[string]report.Result {
	t.Helper()
	chain := s.chain
	if chain == nil {
		chain = []string{macvlan, route}
	}
	versions := s.versions
	if versions == "" {
		versions = "1.1.0"
	}
	defects := map[string]string{"host-local": "none", "macvlan": "none"}
	if s.defect != "" {
		defects[s.plugin] = s.defect + " " + versions
	}
	run := ask(t, chain, s.plugin, defects)
	return func() map[string]report.Result {
		return run(func(r *contract.Requirement) bool {
			_, wanted := s.fails[r.ID]
			_, skipped := s.skips[r.ID]
			return wanted || skipped || *allRequirements && !r.Sweeps() || slices.Contains(bystanders(), r.ID) ||
				slices.Contains(s.through, r.ID)
		})
	}
}

// askAgain runs them until nothing hides the defect, three times at most.
func (s *spoilt) askAgain(t *testing.T) (results map[string]report.Result) {
	t.Helper()
	defer enterLab()()
	for range 3 {
		results = s.ask(t)()
		hidden := false
		for id := range s.fails {
			hidden = hidden || !failed(results[id])
		}
		if !hidden {
			break
		}
	}
	return results
}

// sharedOut returns every N-th of what is broken on purpose, as the flag says, so that a few runs of CI cover all. If
// somebody chooses subtests, all can be chosen.
func sharedOut[T any](t *testing.T, all []T) []T {
	t.Helper()
	if _, chosen := chosenSubtest(); chosen || *onlyDefect != "" {
		return all
	}
	return share.Of(t, *ofCases, all)
}

// chosenSubtest returns the pattern of -test.run for the subtests of a test; found is false if all are chosen.
func chosenSubtest() (pattern string, found bool) {
	_, pattern, found = strings.Cut(flag.Lookup("test.run").Value.String(), "/")
	return pattern, found
}

func (s *spoilt) compare(t *testing.T, got map[string]report.Result) {
	t.Helper()
	for id, reason := range s.fails {
		if r, asked := got[id]; !asked || !failed(r) || !strings.Contains(r.Reason, reason) {
			t.Errorf("%s: got %s: %s\nwant fail or vacuous: … %s …", id, r.Result, r.Reason, reason)
		}
	}
	for id, reason := range s.skips {
		if r, asked := got[id]; !asked || r.Result != report.Skipped || !strings.Contains(r.Reason, reason) {
			t.Errorf("%s: got %s: %s\nwant skipped: … %s …", id, r.Result, r.Reason, reason)
		}
	}
	for id, r := range got {
		_, wanted := s.fails[id]
		switch {
		case wanted || slices.Contains(s.may, id):
		case slices.Contains(s.also, id):
			if !failed(r) {
				t.Errorf("%s: got %s: %s\nwant fail or vacuous, as a consequence", id, r.Result, r.Reason)
			}
		case failed(r):
			t.Errorf("%s is not about the defect: got %s: %s", id, r.Result, r.Reason)
		}
	}
}

// TestBroken_are_complete checks that for each requirement there is a broken plugin that fails it, and a plugin without
// a defect that passes it. TestSweeps has those for the requirements that inject faults.
func TestBroken_are_complete(t *testing.T) {
	fails := map[string]bool{}
	for _, c := range spoiled() {
		for id := range c.fails {
			fails[id] = true
		}
	}
	for _, r := range contract.Requirements() {
		if r.Sweeps() {
			delete(fails, r.ID)
			continue
		}
		if r.Checked() && !fails[r.ID] {
			t.Errorf("requirement %s: no broken plugin fails it; add a defect to broken/wrapper", r.ID)
		}
		passes := slices.ContainsFunc(honest(), func(h sound) bool { return h.passes(r) })
		if r.Checked() && !passes {
			t.Errorf("requirement %s: no honest plugin passes it", r.ID)
		}
		delete(fails, r.ID)
	}
	for id := range fails {
		t.Errorf("broken plugins of requirement %q: there is no such requirement", id)
	}
}

// sound is a plugin without a defect.
type sound struct {
	name, plugin string
	role         contract.Role
	chain        []string
	defects      map[string]string
	// asked are the requirements; empty means all except those that inject faults.
	asked []string
	// but are those that do not pass, with their results.
	but map[string]report.Outcome
}

func (s *sound) asks(r *contract.Requirement) bool {
	return r.Of(s.role) && (len(s.asked) == 0 && !r.Sweeps() || slices.Contains(s.asked, r.ID))
}

// passes reports whether the plugin passes a requirement, as far as any plugin on the reference library can.
func (s *sound) passes(r *contract.Requirement) bool {
	outcome, differs := s.but[r.ID]
	return s.asks(r) && (!differs || outcome == report.KnownUpstream)
}

// TestHonest checks that plugins without a defect pass, to show that the wrapper itself causes no failure.
func TestHonest(t *testing.T) {
	t.Parallel()
	plugins(t)
	cases := sharedOut(t, honest())
	results := make([]map[string]report.Result, len(cases))
	var jobs []func()
	for i, h := range cases {
		defects := map[string]string{}
		for plugin, defect := range h.defects {
			if defects[plugin] = defect; !*allRequirements {
				defects[plugin] += " 0.3.1 1.1.0"
			}
		}
		run := ask(t, h.chain, h.plugin, defects)
		jobs = append(jobs, func() { results[i] = run(h.asks) })
	}
	await := sideBySide(t, jobs)
	for i, h := range cases {
		t.Run(h.name, func(t *testing.T) {
			await(i)
			for id, r := range results[i] {
				want, differs := h.but[id]
				if !differs {
					want = report.Pass
				}
				if r.Result != want {
					t.Errorf("%s: got %s: %s, want %s", id, r.Result, r.Reason, want)
				}
			}
		})
	}
}
