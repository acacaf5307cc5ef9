package netns

import (
	"fmt"
	"testing"

	"github.com/cnitest/cnitest/e2e/conflist"
)

func TestMakesDevices(t *testing.T) {
	for config, want := range map[string]string{
		`"type": "host-device"`: `n.conf names no device for pods, so that the runtime passes one of a PCI bus, which ` +
			`namespaces do not have; name one with "device" or "hwaddr", or run it on a machine that has them, with ` +
			`--backend ssh`,
		`"type": "host-device", "pciBusID": "0000:3d:00.1"`: `n.conf gives pods devices of a PCI bus, which ` +
			`namespaces do not have; run it on a machine that has them, with --backend ssh`,
		`"type": "sriov"`: `n.conf gives pods devices of a PCI bus, which namespaces do not have; run it on a machine ` +
			`that has them, with --backend ssh`,
		`"type": "host-device", "device": "eno2"`: "<nil>",
		`"type": "macvlan"`:                       "<nil>",
	} {
		f, err := conflist.Parse("n.conf", []byte(`{"cniVersion": "1.0.0", "name": "n", `+config+`}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(makesDevices(f)); got != want {
			t.Errorf("%s: got  %s\nwant %s", config, got, want)
		}
	}
}
