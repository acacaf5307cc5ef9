package agent_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
)

// If the kernel has them as modules, the query loads them.
func TestLinkKinds_of_modules(t *testing.T) {
	c := start(t)
	for _, kind := range []string{"dummy", "ipvlan", "vlan", "vrf"} {
		t.Run(kind, func(t *testing.T) {
			missing, err := c.LinkKinds(ctx(t), []string{kind, "carrier-pigeon"})
			check(t, err)
			if cmp.Equal(missing, []string{kind, "carrier-pigeon"}) {
				kerneltest.Lacks(t, kind)
			}
			if diff := cmp.Diff([]string{"carrier-pigeon"}, missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}
