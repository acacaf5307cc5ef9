package conflist

import (
	"slices"
	"testing"
)

func TestKubeconfigs(t *testing.T) {
	for name, tt := range map[string]struct {
		list string
		want []string
	}{
		"whereabouts": {
			`{"plugins": [{"type": "macvlan", "ipam": {"type": "whereabouts", "kubernetes": {"kubeconfig": "/etc/b"}}}]}`,
			[]string{"/etc/b"},
		},
		"several, in any case": {
			`{"plugins": [{"kubeConfig": "/etc/b"}, {"kubeconfig": "/etc/a"}, {"kubeconfig": "/etc/a"}]}`,
			[]string{"/etc/a", "/etc/b"},
		},
		"no path": {`{"plugins": [{"kubeconfig": ""}, {"kubeconfig": 1}, {"kubeconfigs": "/x"}]}`, nil},
		"no JSON": {`{`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Kubeconfigs([]byte(tt.list)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
