package netns_test

import (
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/target"
)

// A missing program, or a file that nobody would read, is the user's to mend, and nothing of the lab stays.
func TestStart_without_an_API_server(t *testing.T) {
	req := request(t, strings.Replace(macvlanConflist, `"type": "macvlan"`,
		`"type": "macvlan", "kubeconfig": "/etc/kubeconfig"`, 1), 1)
	req.Target = &target.Target{Kubernetes: &target.Kubernetes{}}
	_, err := backend().Start(ctx(t), req)
	if err == nil || !strings.Contains(err.Error(), "no program etcd in --bin-dir") {
		t.Errorf("got error %v, want one about etcd", err)
	}
	req = request(t, macvlanConflist, 1)
	req.Target = &target.Target{Kubernetes: &target.Kubernetes{}}
	_, err = backend().Start(ctx(t), req)
	if err == nil || !strings.Contains(err.Error(), "test.conflist has no key kubeconfig") {
		t.Errorf("got error %v, want one about the kubeconfig", err)
	}
}
