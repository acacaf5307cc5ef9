package conflist

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/internal/fuzzseed"
)

// FuzzDefinitions checks that NetworkAttachmentDefinitions, which users write and kubectl prints, give networks or an
// error.
func FuzzDefinitions(f *testing.F) {
	fuzzseed.Add(f, "testdata/field/*.yaml", "testdata/bad/*.yaml", "testdata/*.conflist")
	f.Add([]byte("apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {name: net, namespace: default}\n" +
		"spec:\n  config: '{\"cniVersion\": \"1.0.0\", \"type\": \"macvlan\", \"master\": \"eth0\", \"ipam\": {\"type\": \"dhcp\"}}'\n" +
		"---\nkind: Pod\nmetadata:\n  annotations: {k8s.v1.cni.cncf.io/networks: 'net@net1'}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseAll("fuzz.yaml", data, nil)
		if err != nil {
			return
		}
		if _, err := choose("fuzz.yaml", all, "net"); err != nil {
			return
		}
		for _, file := range all {
			_, _ = file.Plan(PlanOptions{Nodes: nodes("a", "b")})
		}
	})
}

// FuzzRendered checks that a conflist that a node's own administrator wrote gives a list or an error.
func FuzzRendered(f *testing.F) {
	f.Add([]byte(`{"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "ptp", "kubeconfig": "/k"}]}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = ParseRendered(data)
		Kubeconfigs(data)
		IsDefinitions(data)
	})
}
