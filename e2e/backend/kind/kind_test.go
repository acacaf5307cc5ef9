package kind

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

func TestOpen_without_kubectl(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Open(t.Context(), Options{})
	want := "backend kind: no program kubectl; kubernetes.io/docs/tasks/tools says how to install it; make " +
		"kind-node-image builds one"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	var missing *MissingProgramError
	if !errors.As(err, &missing) || missing.Program != "kubectl" {
		t.Errorf("got %v, want that kubectl is missing", err)
	}
}

// program puts a shell script on the PATH in place of a program.
func program(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestOpen_without_cluster(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	program(t, "kubectl", "echo 'no configuration' >&2; exit 1\n")
	_, err := Open(t.Context(), Options{Kubeconfig: "absent"})
	if want := "kubectl proxy: EOF: no configuration"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "cnitest-kube-*")); len(left) > 0 {
		t.Errorf("got %v, want nothing left", left)
	}
}

func TestBackend_Missing(t *testing.T) {
	b := &Backend{nodes: []*node{{}, {}}, outside: []*outsider{{name: "lan"}}}
	for _, tt := range []struct {
		name   string
		needs  scenario.Needs
		want   string // empty if nothing is missing
		beyond bool
	}{
		{name: "nothing", needs: scenario.Needs{Nodes: 2, Services: true, Hosts: []string{"lan"}}},
		{name: "a third node", needs: scenario.Needs{Nodes: 3}, want: "it needs 3 nodes, and the cluster has 2"},
		{name: "the router", needs: scenario.Needs{Hosts: []string{"lan", "router"}}, want: "it uses host/router, which does not exist around this cluster"},
		{name: "reboot", needs: scenario.Needs{Reboot: true}, want: "it reboots a node", beyond: true},
		{
			name: "runtime", needs: scenario.Needs{Runtime: []string{"calls GC", "deletes twice"}, Nodes: 3},
			beyond: true,
			want:   "it plays a container runtime, and here the kubelet's own attaches pods: it calls GC, deletes twice",
		},
		{
			name: "sysctls", needs: scenario.Needs{Sysctls: []string{"net.x"}}, beyond: true,
			want: "it changes settings of nodes, which are the cluster's: net.x",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := b.Missing(t.Context(), tt.needs)
			text := ""
			if err != nil {
				text = err.Error()
			}
			var beyond *cluster.BeyondError
			if text != tt.want || errors.As(err, &beyond) != tt.beyond {
				t.Errorf("got %q, %t, want %q, %t", text, errors.As(err, &beyond), tt.want, tt.beyond)
			}
		})
	}
}

func TestPodImage_wants_a_static_program(t *testing.T) {
	dynamic, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	_, err = newPodImage(dynamic, "")
	if want := "program " + dynamic + ": want a static one, which runs in an image of its own; build it with " +
		"CGO_ENABLED=0"; err == nil || err.Error() != want {
		t.Skipf("the shell of this machine is static, or no program: %v", err)
	}
}

// Each conflist of kind/install can be used with every backend.
func TestInstall_conflists(t *testing.T) {
	files, err := filepath.Glob("../../../kind/install/*/*.conflist")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v, want conflists", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			list, err := conflist.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if want := "05-" + list.Network + ".conflist"; filepath.Base(file) != want ||
				!strings.Contains(file, "/"+list.Network+"/") {
				t.Errorf("got network %q in %s, want it to have the name of its file and folder", list.Network, file)
			}
		})
	}
}
