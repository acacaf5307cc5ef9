package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/backend/cri"
	"github.com/cnitest/cnitest/e2e/backend/kind"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/soak"
	"github.com/cnitest/cnitest/e2e/internal/strictyaml"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

func newExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain ID",
		Short: "Explain a scenario, a requirement, a section of the specification, a feature or a failure mode",
		Long: `Explain describes a scenario (why it matters, what it needs, and what it does, step by step), a
requirement (what the specification says and why, where it was broken, and how it is checked), a
feature (what it claims and what tests it), a failure mode (where it was seen and what would notice
it), a section of the specification (its sentences, and what asks them), the soak of run --soak, or a
scenario of your own by the path of its file.`,
		Example: "  cnitest explain host-to-pod\n  cnitest explain DEL-4\n  cnitest explain RUN-19\n  cnitest " +
			"explain " +
			"2.GC\n  cnitest explain HostToPod\n  cnitest explain K01\n  cnitest explain my-bug.yaml",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("explain: want one scenario, requirement, feature or failure mode, e.g. " +
					"host-to-pod, DEL-4, HostToPod, K01")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := scenario.Load(scenarios.Files)
			if err != nil {
				return err
			}
			switch {
			case strings.EqualFold(args[0], soak.ID):
				all = []*scenario.Scenario{soak.Scenario(soak.DefaultPods, true)}
			case slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(args[0])):
				own, err := scenario.LoadFiles(args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(cmd.OutOrStdout(), scenario.Explain(own[0]))
				return err
			}
			return explain(cmd.OutOrStdout(), all, args[0])
		},
	}
}

func explain(out io.Writer, all []*scenario.Scenario, id string) error {
	for _, s := range all {
		if strings.EqualFold(s.Name, id) {
			_, err := fmt.Fprint(out, scenario.Explain(s))
			return err
		}
	}
	for backend, stories := range map[string][]cluster.Story{kindBackend: kind.Stories(), criBackend: cri.Stories()} {
		for _, s := range stories {
			if strings.EqualFold(s.Name, id) {
				_, err := fmt.Fprintf(out, "%s\n\n%s\n\nfeatures %v, covers %v; with --backend %s alone\n", s.Name,
					s.Description, s.Features, s.Covers, backend)
				return err
			}
		}
	}
	for _, f := range scenario.Features() {
		if strings.EqualFold(string(f), id) {
			return explainFeature(out, all, f)
		}
	}
	modes, err := contract.FailureModes()
	if err != nil {
		return err
	}
	if r := contract.Find(id); r != nil {
		return explainRequirement(out, modes, r)
	}
	for _, m := range modes {
		if strings.EqualFold(m.ID, id) {
			return explainMode(out, all, m)
		}
	}
	if sentences, err := contract.SentencesOf(id); err == nil {
		return explainSection(out, id, sentences)
	}
	known := texts(scenario.Features())
	for _, s := range all {
		known = append(known, s.Name)
	}
	for _, r := range contract.Requirements() {
		known = append(known, r.ID)
	}
	for _, m := range modes {
		known = append(known, m.ID)
	}
	said := "see cnitest list"
	if near := strictyaml.Nearest(id, known); near != "" {
		said = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Errorf("explain %q: no scenario, requirement, feature, failure mode or section of the specification of "+
		"that name; %s", id, said)
}

func explainRequirement(out io.Writer, modes []contract.FailureMode, r *contract.Requirement) error {
	section := "SPEC.md, section " + r.Section
	switch {
	case strings.HasPrefix(r.Section, "CONVENTIONS"):
		section = r.Section
	case r.Section == "failure mode":
		section = "not in the specification: users met it"
	}
	of := "plugins of the kind " + strings.ReplaceAll(roles(r), ",", ", ")
	if r.Of(contract.Runtime) {
		of = "runtimes (cnitest runtime NAME --duty " + r.ID + ")"
	}
	fmt.Fprintf(out, "%s (%s) %s\n\nsource\n  %s\n\napplies to\n  %s", r.ID, r.Level, r.Text, section, of)
	if r.Since != "" {
		fmt.Fprintf(out, ", since CNI %s", r.Since)
	}
	fmt.Fprintf(out, "\n\nwhy it matters\n  %s\n", r.Why)
	var met []string
	for _, m := range modes {
		if slices.Contains(r.Covers, m.ID) {
			met = append(met, "  "+symptom(m))
		}
	}
	if met != nil {
		fmt.Fprintf(out, "\nseen in\n%s\n", strings.Join(met, "\n"))
	}
	_, err := fmt.Fprintf(out, "\nhow it is checked\n  %s\n", r.How)
	if r.Cases == contract.Schedules && err == nil {
		_, err = fmt.Fprintf(out, "\nwhat a failure looks like\n%s", scheduleExample)
	}
	if r.Cases == contract.PowerCuts && err == nil {
		_, err = fmt.Fprintf(out, "\nwhat a failure looks like\n%s", powerExample)
	}
	return err
}

// symptom returns a failure mode in a line, with where it was seen.
func symptom(m contract.FailureMode) string {
	text := m.ID + " " + m.Symptom
	if len(m.Seen) > 0 {
		text += " (" + strings.Join(m.Seen, ", ") + ")"
	}
	return text
}

func explainMode(out io.Writer, all []*scenario.Scenario, m contract.FailureMode) error {
	fmt.Fprintf(out, "%s\n", symptom(m))
	if m.Uncovered != "" {
		fmt.Fprintf(out, "\nnothing catches it: %s\n", m.Uncovered)
	}
	for _, s := range all {
		if slices.Contains(s.Covers, m.ID) {
			fmt.Fprintf(out, "\ncaught by the scenario %s", scenario.Explain(s))
		}
	}
	for _, r := range contract.Covering(m.ID) {
		fmt.Fprintf(out, "\ncaught by %s (%s) %s\n  %s\n", r.ID, r.Level, r.Text, r.How)
	}
	return nil
}

func explainFeature(out io.Writer, all []*scenario.Scenario, f scenario.Feature) error {
	in := "no profile; it counts if it is claimed with run --features " + string(f)
	if profiles := profilesWith(f); profiles != nil {
		in = strings.Join(profiles, ", ")
	}
	testing := slices.DeleteFunc(slices.Clone(all), func(s *scenario.Scenario) bool {
		return !slices.Contains(s.Features, f)
	})
	tests := "no scenario yet"
	if len(testing) > 0 {
		tests = strings.ReplaceAll(names(testing), ", ", "\n  ")
	}
	_, err := fmt.Fprintf(out, "%s\n\n  %s\n\ndemanded by\n  %s\n\ntested by\n  %s\n", f, f.Meaning(), in, tests)
	return err
}

func names(list []*scenario.Scenario) string {
	var words []string
	for _, s := range list {
		words = append(words, s.Name)
	}
	return strings.Join(words, ", ")
}

// powerExample is a power cut as reports show it.
//
//nolint:lll // it is printed as it is
const powerExample = `  The power fails after call 3 of 8 (x: rename /var/lib/x/a.new → /var/lib/x/a), /var/lib/x/a is empty (of 20 bytes).
  Then a runtime with its cache: DEL of old-1: want success, got exit status 1: unexpected end of JSON input

      1 x: create /var/lib/x/a.new
      2 x: write /var/lib/x/a.new (20 bytes then)
      3 x: rename /var/lib/x/a.new → /var/lib/x/a
     ── the power fails
      4 x: sync /var/lib/x
      …
  the disk afterwards:
  /var/lib/x/
  /var/lib/x/a ""

  The name reached the disk before the data. Here fsync of a.new must come before the rename, fsync of the directory
  after it and before the answer; or the plugin takes an empty file for one that is not there, in DEL and in ADD. Files
  below /run do not survive a reboot, and neither do pods: what describes only pods is best kept there. The token of the
  failure is a test for the mended plugin: cnitest run CONFLIST --replay x:POWER-ADD:cache:3:empty@/var/lib/x/a
`

// scheduleExample is a schedule as reports show it.
const scheduleExample = `  A: ADD of pod-1                               │ B: DEL of pod-2
   * 16 RTM_GETLINK shared0                     │
     ── stopped before 18 create /run/x/pod-1   │      (A saw the shared link, and has no record yet)
                                                │  *  7 unlink /run/x/pod-2
                                                │  * 10 list /run/x
                                                │  * 12 RTM_DELLINK shared0
                                                │    ── ends: with success
   * 18 create /run/x/pod-1                     │
     ── ends: with success                      │      (A's pod has no link)

  A star marks a call that touches what the other one touches, too, and one of them changes. Here a lock must be taken
  before the look and held until the record is written, by DEL too. The token of the failure,
  x:RACE-ADD-DEL:pods-cold:A18, is a test for the mended plugin:
  cnitest run CONFLIST --replay x:RACE-ADD-DEL:pods-cold:A18
`
