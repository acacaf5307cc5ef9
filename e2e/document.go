package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/registry"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

// labOf describes a cluster for the report.
func labOf(c cluster.Cluster) *report.Lab {
	lab := &report.Lab{Cloud: c.Cloud() != nil}
	for _, n := range c.Nodes() {
		node := report.LabNode{Name: n.Name, Uplink: n.Uplink, Pods: n.PoolSize}
		for _, a := range n.Interfaces[scenario.UplinkInterface] {
			node.Addresses = append(node.Addresses, a.String())
		}
		lab.Nodes = append(lab.Nodes, node)
		for _, prefix := range n.Networks {
			if text := prefix.String(); !slices.Contains(lab.Networks, text) {
				lab.Networks = append(lab.Networks, text)
			}
		}
	}
	for _, name := range scenario.HostNames() {
		place, ok := c.Hosts()[name]
		if !ok {
			continue
		}
		host := report.LabHost{Name: place.Name}
		for _, a := range place.Interfaces[scenario.UplinkInterface] {
			host.Addresses = append(host.Addresses, a.String())
		}
		// In a cloud, hosts are in other subnets than nodes.
		if name == scenario.ExternalHost || lab.Cloud && name != scenario.RouterHost {
			host.Behind = scenario.HostPlace + "/" + scenario.RouterHost
		}
		lab.Hosts = append(lab.Hosts, host)
	}
	return lab
}

// explainResults adds to each result a title and a reason that need no knowledge of ids, and to each failure the
// command that repeats it.
func (s *Suite) explainResults() error {
	known, err := contract.FailureModes()
	if err != nil {
		return err
	}
	covered := map[string]bool{}
	for i := range s.report.Results {
		result := &s.report.Results[i]
		result.Title, result.Why = s.meaning(result.ID)
		if result.Result == report.Fail || result.Result == report.Vacuous {
			result.Repeat = s.options.Repeat(*result)
		}
		for _, id := range result.Covers {
			covered[id] = true
		}
	}
	s.report.FailureModes = []report.FailureMode{}
	for _, mode := range known {
		if covered[mode.ID] {
			s.report.FailureModes = append(s.report.FailureModes, report.FailureMode{
				ID: mode.ID, Symptom: mode.Symptom,
			})
		}
	}
	return nil
}

// tellInputs adds to the report what the run was given.
func (s *Suite) tellInputs() error {
	files := s.options.Select.Scenarios
	if files == nil {
		files = scenarios.Files
	}
	questions, err := registry.Questions(files)
	if err != nil {
		return err
	}
	inputs := &report.Inputs{
		Command: s.options.Repeat(report.Result{}), Questions: questions, Selection: s.selection,
		Quick: s.options.Select.Quick, Shard: s.options.Select.Shard.String(),
		// With its own suffix, since it is the configuration alone of whatever file it was in.
		Files: []report.InputFile{report.NewInputFile(s.file.Network+".conflist", s.file.Source)},
	}
	if s.labelFilter != "" {
		inputs.Command += " --label-filter " + shellescape.Quote(s.labelFilter)
	}
	if t := s.options.Target; t != nil && t.Source != nil {
		inputs.Files = append(inputs.Files, report.NewInputFile(report.TargetInput, t.Source))
	}
	if with := s.options.Nodes.With; with != nil {
		inputs.Files = append(inputs.Files, report.NewInputFile(report.WithInput, with.Source))
	}
	s.report.Inputs = inputs
	inputs.SHA256 = s.report.InputsSum()
	return nil
}

// meaning returns what a user relies on, and what breaks without it.
func (s *Suite) meaning(id string) (title, why string) {
	for _, sc := range s.scenarios {
		if sc.Name == id {
			return sc.Sentences()
		}
	}
	if r := contract.Find(id); r != nil {
		return r.Text, r.Why
	}
	if f, found := strings.CutPrefix(id, featurePrefix); found {
		return fmt.Sprintf("Some scenario tests the feature %s.", f), ""
	}
	return id, ""
}

// leavesNothingID is the id of the results that say whether every node was as before when everything was deleted.
const leavesNothingID = contract.LeavesNothing

// leavesNothing returns a result for each plugin of the chain; none if requirements alone were asked for, or if the
// shard had no scenario that ran to its end: another one has.
func (s *Suite) leavesNothing() []report.Result {
	s.mu.Lock()
	asked := slices.ContainsFunc(s.report.Results, func(r report.Result) bool { return r.Kind == "scenario" })
	s.mu.Unlock()
	if !asked || s.options.Select.Shard.Of > 0 && !s.residue.Compared() {
		return nil
	}
	var plugins []string
	for _, p := range s.file.Plugins {
		plugins = append(plugins, p.Type)
	}
	return s.residue.Results(report.Result{
		ID: leavesNothingID, Kind: "requirement", Level: report.Must, Covers: contract.Find(leavesNothingID).Covers,
	}, plugins)
}

// compareResults orders results: scenarios first, then by id and plugin.
func compareResults(a, b report.Result) int {
	return cmp.Or(cmp.Compare(b.Kind, a.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Plugin, b.Plugin))
}
