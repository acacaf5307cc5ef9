package cri

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// fakeRuntime answers as containerd does, without any sandbox.
type fakeRuntime struct {
	criapi.UnimplementedRuntimeServiceServer
	sandboxes map[string]string // pods by id
	refuses   string            // the error of RunPodSandbox, which keeps the sandbox
	calls     []string
}

func (f *fakeRuntime) RunPodSandbox(_ context.Context, req *criapi.RunPodSandboxRequest,
) (*criapi.RunPodSandboxResponse, error) {
	pod := req.GetConfig().GetMetadata().GetName()
	f.calls = append(f.calls, "run "+pod)
	f.sandboxes["id-"+pod] = req.GetConfig().GetLabels()[labelPod]
	if f.refuses != "" {
		return nil, status.Error(codes.Unknown, f.refuses)
	}
	return &criapi.RunPodSandboxResponse{PodSandboxId: "id-" + pod}, nil
}

func (f *fakeRuntime) StopPodSandbox(_ context.Context, req *criapi.StopPodSandboxRequest,
) (*criapi.StopPodSandboxResponse, error) {
	f.calls = append(f.calls, "stop "+req.GetPodSandboxId())
	return &criapi.StopPodSandboxResponse{}, nil
}

func (f *fakeRuntime) RemovePodSandbox(_ context.Context, req *criapi.RemovePodSandboxRequest,
) (*criapi.RemovePodSandboxResponse, error) {
	f.calls = append(f.calls, "remove "+req.GetPodSandboxId())
	delete(f.sandboxes, req.GetPodSandboxId())
	return &criapi.RemovePodSandboxResponse{}, nil
}

func (f *fakeRuntime) ListPodSandbox(_ context.Context, req *criapi.ListPodSandboxRequest,
) (*criapi.ListPodSandboxResponse, error) {
	var reply criapi.ListPodSandboxResponse
	for id, pod := range f.sandboxes {
		if req.GetFilter().GetLabelSelector()[labelPod] == pod {
			reply.Items = append(reply.Items, &criapi.PodSandbox{Id: id})
		}
	}
	return &reply, nil
}

func (f *fakeRuntime) Status(context.Context, *criapi.StatusRequest) (*criapi.StatusResponse, error) {
	return &criapi.StatusResponse{Status: &criapi.RuntimeStatus{Conditions: []*criapi.RuntimeCondition{
		{Type: "RuntimeReady", Status: true},
		{Type: "NetworkReady", Reason: "NetworkPluginNotReady", Message: "cni plugin not initialized"},
	}}}, nil
}

// start serves the runtime and returns a client.
func (f *fakeRuntime) start(t *testing.T) *Containerd {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	criapi.RegisterRuntimeServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	c := &Containerd{
		node: &cluster.Node{Place: cluster.Place{Name: "node/a"}}, conn: conn,
		api: criapi.NewRuntimeServiceClient(conn),
	}
	t.Cleanup(c.close)
	return c
}

func TestContainerd(t *testing.T) {
	f := &fakeRuntime{sandboxes: map[string]string{"id-other": "other"}}
	c := f.start(t)
	if id, err := c.Run(t.Context(), Sandbox{Pod: "web"}); id != "id-web" || err != nil {
		t.Errorf("got %q, %v, want id-web", id, err)
	}
	for range 2 {
		if err := c.Remove(t.Context(), "web"); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"run web", "stop id-web", "remove id-web"}, f.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	got, err := c.Conditions(t.Context())
	if diff := cmp.Diff(map[string]string{
		"RuntimeReady": "", "NetworkReady": "NetworkPluginNotReady: cni plugin not initialized",
	}, got); diff != "" || err != nil {
		t.Errorf("conditions (-want +got):\n%s%v", diff, err)
	}
}

func TestContainerd_Run_refused(t *testing.T) {
	for _, tt := range []struct {
		name, says, want, plugin string
	}{
		{
			name:   "by a plugin",
			says:   `failed to setup network for sandbox "12": plugin type="route" failed (add): no uplink; eno7`,
			want:   `node/a: RunPodSandbox of web: failed to setup network for sandbox "12": route: no uplink; eno7`,
			plugin: "route",
		},
		{
			name: "by containerd", says: "failed to get sandbox image",
			want: "node/a: RunPodSandbox of web: failed to get sandbox image",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := (&fakeRuntime{sandboxes: map[string]string{}, refuses: tt.says}).start(t)
			_, err := c.Run(t.Context(), Sandbox{Pod: "web"})
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			var refused *cni.Error
			if errors.As(err, &refused) != (tt.plugin != "") || refused != nil && refused.Plugin != tt.plugin {
				t.Errorf("got %v, want the error of the plugin %q", refused, tt.plugin)
			}
			// The sandbox that could not be made is removed like another.
			if err := c.Remove(t.Context(), "web"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBackend_Missing(t *testing.T) {
	b := &Backend{}
	for _, tt := range []struct {
		name  string
		needs scenario.Needs
		want  string
	}{
		{name: "nothing"},
		{name: "a chain", needs: scenario.Needs{Runtime: []string{scenario.ChangesConflist}}},
		{
			name: "a runtime", needs: scenario.Needs{Runtime: []string{scenario.ChangesConflist, "deletes twice"}},
			want: "it plays a container runtime, and here containerd attaches pods: it deletes twice",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := b.Missing(t.Context(), tt.needs)
			var beyond *cluster.BeyondError
			if tt.want == "" && err == nil {
				return
			}
			if !errors.As(err, &beyond) || beyond.Reason != tt.want {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestFindTools(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(want string) {
		t.Helper()
		if _, err := findTools(dir, toolDir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, name := range toolNames() {
		wants(name + ": no such file or directory; make cri-tools builds it")
		write(name, "#!/bin/sh\necho containerd example.org/containerd v2.4.2 abc\n")
	}
	if got, err := findTools(dir, toolDir); err != nil || got.version != "2.4.2" || got.cniVersion() != "" {
		t.Errorf("got %+v, %v, want version 2.4.2, which knows all versions", got, err)
	}
	write("containerd", "#!/bin/sh\necho containerd example.org/containerd 1.6.20~ds1 1.6.20~ds1-1\n")
	wants("loopback: no such file or directory")
	write("loopback", "")
	if got, err := findTools(dir, toolDir); err != nil || got.version != "1.6.20~ds1" || got.cniVersion() != "1.0.0" {
		t.Errorf("got %+v, %v, want version 1.6.20~ds1, which knows 1.0.0", got, err)
	}
	write("containerd", "#!/bin/sh\necho containerd example.org/containerd 1.5.0 abc\n")
	wants("want version 1.6 or later, got \"containerd example.org/containerd 1.5.0 abc\"")
	if !slices.IsSorted(toolNames()) {
		t.Error("want the tools in order")
	}
}
