package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBackendFlags wants what a report says of repeating a failure to name the machines again.
func TestBackendFlags(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags runFlags
		want  []string
	}{
		{"machines by ssh", runFlags{backend: sshBackend, remote: remoteFlags{nodes: []string{"a", "b"}, configFile: "ssh.conf", reboot: "systemctl reboot"}},
			[]string{"--backend", "ssh", "--nodes", "a,b", "--ssh-config", "ssh.conf", "--reboot", "systemctl reboot"}},
		{"a cluster", runFlags{backend: kindBackend, kind: kindFlags{kubeconfig: "config"}, node: nodeFlags{uplink: "eth1"}},
			[]string{"--backend", "kind", "--kubeconfig", "config", "--uplink", "eth1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.flags.backendFlags()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
