package main

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

// TestBackendFlags checks that the command that repeats a failure names the machines again.
func TestBackendFlags(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags runFlags
		want  []string
	}{
		{
			"machines by ssh",
			runFlags{backend: sshBackend, remote: remoteFlags{nodes: []string{"a", "b"}, configFile: "ssh.conf", reboot: "systemctl reboot"}},
			[]string{"--backend", "ssh", "--nodes", "a,b", "--ssh-config", "ssh.conf", "--reboot", "systemctl reboot"},
		},
		{
			"a cluster",
			runFlags{backend: kindBackend, kind: kindFlags{kubeconfig: "config"}, node: nodeFlags{uplink: "eth1"}},
			[]string{"--backend", "kind", "--kubeconfig", "config", "--uplink", "eth1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.flags.backendFlags()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestLackOf distinguishes a run in which a plugin under test needed what the kernel lacks from one in which another
// plugin did.
func TestLackOf(t *testing.T) {
	r := &report.Report{
		Results: []report.Result{{ID: "ADD-2", Plugin: "macvlan"}, {ID: "chain-portmap", Plugin: report.Chain}},
	}
	r.Results[0].LacksOf("no vlan", "links of the kind vlan (CONFIG_VLAN_8021Q)")
	if err := lackOf(r); err != nil {
		t.Errorf("got %v, want none: macvlan is not under test", err)
	}
	r.Results[1].LacksOf("no nat", "chains of nf_tables of the kind ip nat (CONFIG_NFT_NAT)")
	var exit *exitError
	const want = "this machine cannot run 1 of 2, first chain-portmap: it lacks chains of nf_tables of the kind ip " +
		"nat (CONFIG_NFT_NAT)"
	if err := lackOf(r); !errors.As(err, &exit) || exit.status != exitUnfit || exit.err.Error() != want {
		t.Errorf("got %v, want status %d: %s", err, exitUnfit, want)
	}
}

// TestLabFailure distinguishes a run in which the lab failed from a complete one.
func TestLabFailure(t *testing.T) {
	r := &report.Report{Results: []report.Result{
		{ID: "host-to-pod", Result: report.Pass}, {ID: "reboot", Result: report.Skipped, Reason: "not allowed"},
	}}
	if err := labFailure(r); err != nil {
		t.Errorf("got %v, want none: a skip with its reason is no failure", err)
	}
	r.Results[1].LabFails(errors.New("node2: the connection is lost"))
	var exit *exitError
	const want = "the lab failed for 1 of 2, first for reboot: node2: the connection is lost"
	if err := labFailure(r); !errors.As(err, &exit) || exit.status != exitUnfit || exit.err.Error() != want {
		t.Errorf("got %v, want status %d: %s", err, exitUnfit, want)
	}
}
