package contract

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sync/singleflight"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/calltime"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Lab makes the clusters on which checks run.
type Lab struct {
	Backend cluster.Backend
	// Request is the request for each cluster; checks choose its nodes and its chain.
	Request cluster.Request
	// Times records how long calls took; nil records nothing.
	Times *calltime.Recorder
	// Exploration says which cases are tried of the requirements that have many.
	Exploration Exploration
	pace        *pace // of the chain
}

// limit returns how many of the clusters that a check would use at the same time can exist: one if machines exist only
// once.
func (l *Lab) limit(clusters int) int {
	if cluster.IsExclusive(l.Backend) {
		return 1
	}
	return clusters
}

// Subject is one plugin of a chain, at its place. Its methods may be called concurrently.
type Subject struct {
	// Type is the type of the plugin, Role its role.
	Type string
	Role Role
	// index is its place in the chain, or the place of the plugin that delegates to it.
	index int
	// ipam is the plugin that it delegates to; empty if there is none.
	ipam string
	// skel says that the binary is built on the reference library of plugins in Go.
	skel     bool
	versions []string // advertised, oldest first
	// file is the configuration of the whole chain.
	file *conflist.File
	lab  Lab
	// discovering is held while the versions are asked for.
	discovering sync.Mutex
	known
}

// known contains what the checks of a subject share.
type known struct {
	once    singleflight.Group
	mu      sync.Mutex
	lives   map[string]*lifecycle
	scores  map[cni.Verb]*Score
	changes *provocations
	// shared is the bench of the checks that attach nothing.
	shared *bench
	calls  []observedCall
	// refused contains the calls that failed, with what the kernel refused to them.
	refused []explainedCall
	outage  *outage // nil before it is recorded
}

// observedCall is a call with the requirement that it was made for.
type observedCall struct {
	cni.Call
	requirement, version string
	// record is the record of the run of the check that made the call.
	record *disturbance.Record
}

// Subjects returns the plugins of the chain and those that they delegate to, each once, in the order in which a runtime
// calls them.
func Subjects(file *conflist.File, lab Lab) []*Subject {
	var all []*Subject
	lab.pace = &pace{}
	add := func(s *Subject) {
		if !slices.ContainsFunc(all, func(other *Subject) bool { return other.Type == s.Type }) {
			s.file, s.lab, s.lives, s.scores = file, lab, map[string]*lifecycle{}, map[cni.Verb]*Score{}
			s.skel = usesSkel(filepath.Join(lab.Request.BinDir, s.Type))
			all = append(all, s)
		}
	}
	for i, p := range file.Plugins {
		role := Chained
		if i == 0 {
			role = Main
		}
		add(&Subject{Type: p.Type, Role: role, index: i, ipam: p.IPAM})
		if p.IPAM != "" {
			add(&Subject{Type: p.IPAM, Role: IPAM, index: i})
		}
	}
	return all
}

// usesSkel reports whether a binary was built from the module in which skel is. A plugin need not be written in Go.
func usesSkel(file string) bool {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return false
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/containernetworking/cni" {
			return true
		}
	}
	return false
}

// newest returns the highest version at which the subject can be called.
func (s *Subject) newest() string { return s.versions[len(s.versions)-1] }

// Discover gets the versions of the plugin and of those before it in the chain: the subject can be called at the
// versions that all of them have.
func (s *Subject) Discover(ctx context.Context) error {
	s.discovering.Lock()
	defer s.discovering.Unlock()
	if s.versions != nil {
		return nil
	}
	c, err := s.lab.start(ctx, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	var common []string
	for i, p := range s.file.Plugins[:s.index+1] {
		name := p.Type
		if s.Role == IPAM {
			if i != s.index {
				continue
			}
			name = s.Type
		}
		supported, err := askVersions(ctx, c.Nodes()[0], name)
		if err != nil {
			return &versionError{plugin: name, err: err}
		}
		if common == nil {
			common = supported
			continue
		}
		common = slices.DeleteFunc(common, func(v string) bool { return !slices.Contains(supported, v) })
	}
	if last, old := s.file.Runtime(); old {
		common = slices.DeleteFunc(common, func(v string) bool { return !atLeast(last, v) })
	}
	if s.file.LayerTwo() {
		// A result of older ones has an address.
		common = slices.DeleteFunc(common, func(v string) bool { return !atLeast(v, "0.3.0") })
	}
	if len(common) == 0 {
		return errors.New("no version of the specification that the suite and the plugins of the chain have in common")
	}
	s.versions = common
	return nil
}

// versionError means that a plugin did not return its versions.
type versionError struct {
	plugin string
	err    error
}

func (e *versionError) Error() string { return fmt.Sprintf("plugin %s: %v", e.plugin, e.err) }

func (e *versionError) Unwrap() error { return e.err }

// askVersions returns the versions that a plugin advertises and the suite knows.
func askVersions(ctx context.Context, node *cluster.Node, plugin string) ([]string, error) {
	call, err := node.Agent.Plugin(ctx, agent.PluginArgs{
		Plugin: plugin, BinDirs: node.BinDirs, Env: []string{"CNI_COMMAND=VERSION"},
		Stdin: []byte(`{"cniVersion": "1.0.0"}`),
	})
	if err != nil {
		return nil, err
	}
	var answer struct {
		SupportedVersions []string `json:"supportedVersions"`
	}
	if err := json.Unmarshal([]byte(call.Stdout), &answer); err != nil || call.ExitCode != 0 {
		return nil, fmt.Errorf("VERSION: want supportedVersions, got exit status %d and %q", call.ExitCode,
			strings.TrimSpace(call.Stdout))
	}
	var known []string
	for _, v := range version.All.SupportedVersions() {
		if slices.Contains(answer.SupportedVersions, v) {
			known = append(known, v)
		}
	}
	if known == nil {
		return nil, fmt.Errorf("VERSION: want a supported version of %v, got %v", version.All.SupportedVersions(),
			answer.SupportedVersions)
	}
	return known, nil
}

// fewDevices is the number of devices for pods of a node to which few pods are attached at the same time.
const fewDevices = 6

// manyPods asks for a node for many pods, or for pods that may not give back what they got.
func manyPods(req *cluster.Request) { req.Devices = 0 }

// start makes a cluster of one node for a few pods, without hosts around it unless edit says otherwise.
func (l Lab) start(ctx context.Context, edit func(*cluster.Request)) (cluster.Cluster, error) {
	req := l.Request
	node := scenario.Node{Name: "a"}
	if len(req.Nodes) > 0 {
		node = req.Nodes[0]
	}
	req.Nodes, req.Alone, req.Devices = []scenario.Node{node}, true, fewDevices
	if edit != nil {
		edit(&req)
	}
	starting, end := timing.Begin(ctx, timing.Lab)
	defer end()
	c, err := l.Backend.Start(starting, req)
	if err != nil {
		return nil, startError{err}
	}
	return c, nil
}

// atLeast reports whether a version that the suite knows is not older than another one.
func atLeast(v, than string) bool {
	ok, err := version.GreaterThanOrEqualTo(v, than)
	return err == nil && ok
}

// Close ends the clusters that the checks of the subject share. Later checks make new ones.
func (s *Subject) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared == nil {
		return nil
	}
	shared := s.shared
	s.shared = nil
	return shared.cluster.Close()
}

// Forget removes the traces of a run of a check that is repeated: its calls, its provocations, and shared results, as
// far as a machine that was too busy influenced them.
func (s *Subject) Forget(record *disturbance.Record, r *Requirement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	records := []*disturbance.Record{record}
	for version, l := range s.lives {
		if l.record.Finding().Doubtful {
			records = append(records, l.record)
			delete(s.lives, version)
		}
	}
	if s.changes != nil && s.changes.record.Finding().Doubtful {
		records = append(records, s.changes.record)
		s.changes = nil
	}
	s.lab.pace.forget()
	s.calls = slices.DeleteFunc(s.calls, func(c observedCall) bool { return slices.Contains(records, c.record) })
	for _, score := range s.scores {
		score.Provocations = slices.DeleteFunc(score.Provocations, func(p Provocation) bool {
			return p.requirement == r.ID
		})
	}
}

// observe keeps a call for the audits.
func (s *Subject) observe(c observedCall) {
	s.lab.Times.Keep(c.Call)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
}

// Score counts how often a verb noticed what was provoked.
type Score struct {
	Provocations []Provocation
}

// Provocation is something that was broken, and whether the verb noticed.
type Provocation struct {
	What    string
	Noticed bool
	// requirement is the requirement whose check provoked it.
	requirement string
}

// Noticed returns how many were noticed.
func (s *Score) Noticed() int {
	n := 0
	for _, p := range s.Provocations {
		if p.Noticed {
			n++
		}
	}
	return n
}

// Scores returns the scores of CHECK and STATUS, as far as checks provoked them.
func (s *Subject) Scores() map[cni.Verb]*Score {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scores
}

func (s *Subject) score(verb cni.Verb, p Provocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	score := s.scores[verb]
	if score == nil {
		score = &Score{}
		s.scores[verb] = score
	}
	score.Provocations = append(score.Provocations, p)
}
