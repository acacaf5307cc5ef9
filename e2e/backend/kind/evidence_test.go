package kind

import (
	"io"
	"os"
	"path/filepath"
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

func TestCached(t *testing.T) {
	const own = `{"cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "cnitest"]], "result": {}}`
	dir := t.TempDir()
	for name, text := range map[string]string{
		"route-1-eth0": own, "route-2-eth0": `{"cniArgs": [["K8S_POD_NAMESPACE", "kube-system"]]}`, "route-3-eth0": "{",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client := startTestAgent(t)
	got, err := cached(t.Context(), client, dir)
	if want := "route-1-eth0\n" + own + "\nroute-2-eth0\nroute-3-eth0\n{\n"; got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	text, err := cached(t.Context(), client, filepath.Join(dir, "route-1-eth0"))
	if want := "node/a: open " + dir + "/route-1-eth0: not a directory"; withError(text, err) != want {
		t.Errorf("of no directory got %q, want %q", withError(text, err), want)
	}
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
