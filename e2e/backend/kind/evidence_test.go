package kind

import (
	"io"
	"testing"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
)

// startTestAgent starts an agent in this process.
func startTestAgent(t *testing.T) *agent.Client {
	t.Helper()
	requests, toAgent := io.Pipe()
	replies, fromAgent := io.Pipe()
	go func() { _ = agent.Serve(agent.Pipe{ReadCloser: requests, WriteCloser: fromAgent}, agent.Options{}) }()
	client := agent.NewClient("node/a", agent.Pipe{ReadCloser: replies, WriteCloser: toAgent})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// A node that is not kind's has no container.
func TestLab_journal_by_the_agent(t *testing.T) {
	program(t, "journalctl", "echo \"$@\"; exit $STATUS\n")
	l := &lab{
		backend: &Backend{nodes: []*node{{}}}, nodes: []*cluster.Node{{Place: cluster.Place{Agent: startTestAgent(t)}}},
	}
	for status, wantErr := range map[string]string{"0": "", "1": "\njournalctl: exit status 1"} {
		t.Setenv("STATUS", status)
		text, err := l.journal(t.Context(), 0, "kubelet")
		if got, want := withError(text, err), "--no-pager -o short-precise -n 200 -u kubelet\n"+wantErr; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
