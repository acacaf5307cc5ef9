package libcnicache

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
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

func TestText(t *testing.T) {
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
	got, err := Text(t.Context(), client, dir, "cnitest")
	if want := "route-1-eth0\n" + own + "\nroute-2-eth0\nroute-3-eth0\n{\n"; got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	_, err = Text(t.Context(), client, filepath.Join(dir, "route-1-eth0"), "cnitest")
	if want := "node/a: open " + dir + "/route-1-eth0: not a directory"; err == nil || err.Error() != want {
		t.Errorf("of no directory got %v, want %q", err, want)
	}
}

func TestEntry_attachment(t *testing.T) {
	e := entry{
		ContainerID: "0123", IfName: "eth0", Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "ns"}, {"K8S_POD_NAME", "web"},
		},
		Result: []byte(`{"interfaces": [{"name": "eth0.host"}, {"name": "eth0", "sandbox": "/var/run/netns/cni-1"}]}`),
	}
	got, err := e.attachment()
	if err != nil {
		t.Fatal(err)
	}
	type want struct{ Pod, ContainerID, IfName, Netns string }
	if diff := cmp.Diff(want{"ns/web", "0123", "eth0", "/var/run/netns/cni-1"}, want{
		got.Pod, got.ContainerID, got.IfName, got.Netns,
	}); diff != "" {
		t.Errorf("attachment (-want +got):\n%s", diff)
	}
	e.Result = []byte(`{"interfaces": [{"name": "eth0"}]}`)
	if _, err := e.attachment(); err == nil ||
		err.Error() != "its result names no sandbox for the pod's interface" {
		t.Errorf("got %v, want that the sandbox is missing", err)
	}
	e.Netns = "/var/run/netns/cni-2"
	if got, err := e.attachment(); err != nil || got.Netns != e.Netns {
		t.Errorf("got %v, %v, want the namespace that libcni recorded, whatever the result names", got, err)
	}
}
