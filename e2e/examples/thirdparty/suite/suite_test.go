// Package suite is the plugin's own Ginkgo suite, to which cnitest adds its specs.
//
// Run its tests: make test
package suite

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/scenario"
)

const conflist = "../net.d/10-toyvlan.conflist"

var _ = ginkgo.It("ships a conflist that is JSON", func() {
	data, err := os.ReadFile(conflist)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	gomega.Expect(json.Valid(data)).To(gomega.BeTrue())
})

func TestMain(m *testing.M) { netns.Main(m) }

func TestSuite(t *testing.T) {
	gomega.RegisterFailHandler(ginkgo.Fail)
	// Here and not at the top level, since nodes run this binary too and do not need the specs.
	e2e.Describe(e2e.Options{
		Conflist: conflist, BinDir: "../bin", Backend: &netns.Backend{},
		Profile: scenario.ProfileCNI, Select: e2e.Selection{Quick: true},
	})
	ginkgo.RunSpecs(t, "toyvlan")
}
