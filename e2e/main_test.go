package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/internal/testbin"
	"github.com/cnitest/cnitest/e2e/internal/throttle"
)

const (
	// agentArgument makes this test binary a node's agent; it precedes the agent's configuration.
	agentArgument = "agent"
	// suiteVariable makes it a Ginkgo suite, of which a process can run only one. It contains a ginkgoRequest.
	suiteVariable = "CNITEST_SUITE"
	// pluginsVariable names a directory with the plugins, for a machine on which nothing can be built. It need not have
	// those that no chosen test runs.
	pluginsVariable = "CNITEST_TEST_PLUGINS"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == agentArgument {
		if err := netns.ChildMain(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if request := os.Getenv(suiteVariable); request != "" {
		os.Exit(runGinkgo(request))
	}
	flag.Parse()
	// A test that waits for a lab must not keep others from starting: only the labs are limited.
	if err := flag.Set("test.parallel", "100"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "cnitest-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go labs.Follow(context.Background())
	built = sync.OnceValues(func() (*binaries, error) { return buildBinaries(dir) })
	status := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// fewest and most limit the labs of all tests that run at the same time. Some tests only wait, others keep a processor
// busy: there are as many labs as the machine carries without being late.
const fewest, most = 4, 12

var labs = throttle.New(fewest, most)

// enterLab waits until there is room for a lab. The returned function makes room for another.
func enterLab() (leave func()) {
	_ = labs.Enter(context.Background()) // fails only if the context ends
	return labs.Leave
}

// holdLab runs the rest of a test in a lab, in parallel with others.
func holdLab(t *testing.T) {
	t.Helper()
	t.Parallel()
	t.Cleanup(enterLab())
}

// binaries are directories of plugins.
type binaries struct {
	// plugins contains the plugins of upstream and of this repository, and the broken ones; chained is called broken
	// there.
	plugins string
	// brokenIPAM contains the same, and the broken ipam under the name host-local.
	brokenIPAM string
}

// built builds the plugins once, when the first test needs them.
var built func() (*binaries, error)

func buildBinaries(dir string) (*binaries, error) {
	if given := os.Getenv(pluginsVariable); given != "" {
		return &binaries{plugins: given}, nil
	}
	b := &binaries{plugins: filepath.Join(dir, "plugins"), brokenIPAM: filepath.Join(dir, "broken-ipam")}
	const upstream = "github.com/containernetworking/plugins/plugins/"
	if err := testbin.Build(b.plugins, upstream+"main/bridge", upstream+"main/host-device",
		upstream+"main/ipvlan", upstream+"main/macvlan",
		upstream+"main/ptp", upstream+"main/vlan", upstream+"meta/vrf",
		upstream+"ipam/host-local", upstream+"ipam/static", upstream+"ipam/dhcp", upstream+"meta/bandwidth",
		upstream+"meta/portmap", upstream+"meta/sbr",
		upstream+"meta/tuning", "../plugin/route", "../plugin/veth-to-host", "../plugin/routed-eni", "../plugin/ipamd",
		"./broken/naive-route", "./broken/chained", "./broken/wrapper", "./broken/nothing",
		"./broken/careless", "./broken/racing", "./broken/served", "./broken/unsynced", "./broken/lasting",
		"./broken/ledger"); err != nil {
		return nil, err
	}
	if err := os.Rename(filepath.Join(b.plugins, "chained"), filepath.Join(b.plugins, "broken")); err != nil {
		return nil, err
	}
	if err := testbin.Build(b.brokenIPAM, "./broken/ipam"); err != nil {
		return nil, err
	}
	if err := os.Rename(filepath.Join(b.brokenIPAM, "ipam"), filepath.Join(b.brokenIPAM, "host-local")); err != nil {
		return nil, err
	}
	for name, as := range map[string]string{
		"macvlan": "macvlan", "route": "route", "ptp": "ptp", "static": "static", "host-local": "host-local.real",
	} {
		if err := os.Link(filepath.Join(b.plugins, name), filepath.Join(b.brokenIPAM, as)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// plugins returns the directories of binaries. It skips the test if they could not be run.
func plugins(t *testing.T) *binaries {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("want root, to make network namespaces")
	}
	b, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func backend() *netns.Backend {
	return &netns.Backend{Command: []string{"/proc/self/exe", agentArgument}}
}

// Plugin configurations for conflists. All macvlan configurations leave 192.168.0.2 to the node.
const (
	pool = `{"type": "host-local", "ranges": [[{"subnet": "192.168.0.0/16", "rangeStart": "192.168.1.2", "rangeEnd": "192.168.1.254",
		"gateway": "192.168.0.1"}]], "routes": [{"dst": "0.0.0.0/0"}]}`
	macvlan  = `{"type": "macvlan", "master": "eno1", "ipam": ` + pool + `}`
	dualPool = `{"type": "host-local", "ranges": [[{"subnet": "192.168.0.0/16", "rangeStart": "192.168.1.2", "rangeEnd": "192.168.1.254",
		"gateway": "192.168.0.1"}], [{"subnet": "fd00:20::/64", "gateway": "fd00:20::1"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}`
	ipv6Pool = `{"type": "host-local", "ranges": [[{"subnet": "fd00:20::/64", "gateway": "fd00:20::1"}]], "routes": ` +
		`[{"dst": "::/0"}]}`
	layerTwo   = `{"type": "macvlan", "master": "eno1"}`
	hostDevice = `{"type": "host-device", "device": "eno2", "ipam": ` + pool + `}`
	leased     = `{"type": "macvlan", "master": "eno1", "ipam": {"type": "dhcp"}}`
	// A runtime passes addresses for brought, and a MAC for asked.
	brought = `{"type": "macvlan", "master": "eno1", "capabilities": {"ips": true}, "ipam": {"type": "static",
		"routes": [{"dst": "0.0.0.0/0", "gw": "192.168.0.1"}]}}`
	broughtByArgs = `{"type": "macvlan", "master": "eno1", "ipam": {"type": "static", "routes": [{"dst": ` +
		`"0.0.0.0/0", "gw": "192.168.0.1"}]}}`
	byArgs = `{"type": "macvlan", "master": "eno1", "args": {"cni": {"ips": ["10.23.0.9/24"]}}, "ipam": {"type": "static", ` +
		`"routes": [{"dst": "0.0.0.0/0", "gw": "10.23.0.1"}]}}`
	asked  = `{"type": "macvlan", "master": "eno1", "capabilities": {"mac": true}, "ipam": ` + pool + `}`
	route  = `{"type": "route", "master": "eno1", "bridge": "eno1.host"}`
	naive  = `{"type": "naive-route", "master": "eno1", "bridge": "eno1.host"}`
	bridge = `{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.22.0.0/16",
		"routes": [{"dst": "0.0.0.0/0"}]}}`
	ptp = `{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.23.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]}}`
)

// broken returns the configuration of the plugin broken with a fault.
func broken(fault string) string {
	// The endpoint is the second node's first pod, which the scenario's service has until it gets another.
	const proxy = `"service": "10.96.0.10:53", "endpoint": "192.168.1.128:8080"`
	return fmt.Sprintf(`{"type": "broken", "fault": %q, "master": "eno1", "child": "eno1.host", %s}`, fault, proxy)
}

// returning returns host-device behind a plugin that returns devices as they were, with a fault.
func returning(fault string) string {
	return strings.Replace(hostDevice, `"type": "host-device"`,
		`"type": "broken", "delegate": "host-device", "fault": "`+fault+`"`, 1)
}

// writeConflist writes a conflist with further keys, which may be empty, and plugins, and returns its path. Its version
// is 1.0.0, which has CHECK and no GC.
func writeConflist(t *testing.T, more string, plugins ...string) string {
	t.Helper()
	if more != "" {
		more += ", "
	}
	text := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "net", %s"plugins": [%s]}`, more, strings.Join(plugins, ",\n"))
	if !json.Valid([]byte(text)) {
		t.Fatalf("conflist is no JSON:\n%s", text)
	}
	path := filepath.Join(t.TempDir(), "net.conflist")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// newSuite returns a suite with the plugins that this test binary built, unless the options name others.
func newSuite(t *testing.T, options e2e.Options) *e2e.Suite {
	t.Helper()
	if options.BinDir == "" {
		options.BinDir = plugins(t).plugins
	}
	options.Backend = backend()
	suite, err := e2e.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return suite
}

// wrapped returns a main plugin that delegates to macvlan, with a fault.
func wrapped(fault string) string {
	return strings.Replace(macvlan, `"type": "macvlan"`, `"type": "broken", "delegate": "macvlan", "fault": "`+fault+
		`"`, 1)
}

// withIPAM returns a chain that passes everything, with a fault in its IPAM plugin.
func withIPAM(fault string) []string {
	return []string{
		strings.Replace(macvlan, `"type": "host-local"`, `"type": "host-local", "fault": "`+fault+`"`, 1), route,
	}
}
