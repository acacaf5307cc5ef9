package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// callsShown bounds the calls that are shown of a failed step: one with many pods has hundreds.
const callsShown = 6

// callEvidence shows the calls since the given one, failed ones first where there are many; without any, the last of before.
func (r *run) callEvidence(since int) []report.Evidence {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls[min(since, len(r.calls)):]
	if len(calls) == 0 {
		calls = r.calls[max(0, len(r.calls)-2):]
	}
	shown := calls
	if len(calls) > callsShown {
		shown = nil
		for _, c := range calls {
			if c.ExitCode != 0 && len(shown) < callsShown {
				shown = append(shown, c)
			}
		}
		if shown == nil {
			shown = calls[len(calls)-callsShown:]
		}
	}
	return callsText(shown)
}

// callsText shows calls one by one.
func callsText(calls []cni.Call) []report.Evidence {
	var evidence []report.Evidence
	for _, c := range calls {
		evidence = append(evidence, report.Evidence{Title: fmt.Sprintf("%s %s", c.Plugin, c.Verb), Text: c.Transcript()})
	}
	return evidence
}

// stateEvidence is how the nodes differ from how they were before the first step.
func (r *run) stateEvidence(ctx context.Context) []report.Evidence {
	var evidence []report.Evidence
	for _, node := range r.env.Cluster.Nodes() {
		state, ok := r.env.States[node.Name]
		if !ok {
			continue
		}
		now, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Namespaces: r.namespaces(node.Name)})
		if err != nil {
			continue
		}
		var lines []string
		for _, c := range snapshot.Diff(state.Before, now) {
			lines = append(lines, c.String())
		}
		if len(lines) > 0 {
			evidence = append(evidence, report.Evidence{Title: "state of " + node.Name + " against the start", Text: strings.Join(lines, "\n")})
		}
	}
	return evidence
}

// namespacesShown bounds the pods whose state is shown.
const namespacesShown = 4

func (r *run) namespaces(node string) map[string]string {
	scopes := map[string]string{}
	for _, p := range r.env.Pods {
		if p.Exists && p.Node.Name == node && len(scopes) < namespacesShown {
			scopes[p.Name] = p.Netns
		}
	}
	return scopes
}

// keepCapture keeps a file of packets for the end of the run, and returns its path below the report's directory; empty where nothing
// is written or there is no packet.
func (s *Suite) keepCapture(id string, data []byte) string {
	if s.options.ReportDir == "" || len(data) == 0 {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := id + ".pcapng"
	s.captures[name] = data
	return evidenceDir + "/" + name
}

// evidenceDir is where evidence is, below the report's directory.
const evidenceDir = "evidence"

// writeEvidence writes a text file for each result that has evidence, and the captures by their names.
func writeEvidence(dir string, r *report.Report, captures map[string][]byte) error {
	evidence := filepath.Join(dir, evidenceDir)
	// What a former run left there belongs to another report.
	if err := os.RemoveAll(evidence); err != nil {
		return err
	}
	for _, result := range r.Results {
		if len(result.Evidence) == 0 {
			continue
		}
		if err := os.MkdirAll(evidence, 0o755); err != nil {
			return err
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s (%s): %s\n%s\n", result.ID, result.Plugin, result.Result, result.Reason)
		for _, e := range result.Evidence {
			fmt.Fprintf(&b, "\n== %s\n%s\n", e.Title, e.Text)
			if e.File != "" {
				fmt.Fprintf(&b, "(the packets themselves: %s)\n", filepath.Base(e.File))
			}
		}
		file := filepath.Join(evidence, EvidenceName(result))
		if err := renameio.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	for name, data := range captures {
		if err := renameio.WriteFile(filepath.Join(evidence, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// EvidenceName is the name of a result's file in the directory evidence of the report.
func EvidenceName(result report.Result) string {
	return strings.ReplaceAll(result.Name(), " ", "-") + ".txt"
}

func compareResults(a, b report.Result) int {
	return cmp.Or(cmp.Compare(b.Kind, a.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Plugin, b.Plugin))
}
