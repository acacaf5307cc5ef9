package kubeproxy_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/lostthread"
	"github.com/cnitest/cnitest/e2e/lab/debian"
	"github.com/cnitest/cnitest/e2e/lab/kubeproxy"
	"github.com/cnitest/cnitest/e2e/service"
)

// TestProxy_Apply needs kube-proxy in ../../../bin, where `make kubernetes` puts it.
func TestProxy_Apply(t *testing.T) {
	programs, err := filepath.Abs("../../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(programs, kubeproxy.Program), debian.Dir()} {
		if _, err := os.Stat(path); err != nil || os.Geteuid() != 0 {
			t.Skipf("needs root and %s; make kubernetes node-programs", path)
		}
	}
	_ = lostthread.Do(func() error {
		for _, err := range []error{
			unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET),
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("sysfs", "/sys", "sysfs", 0, ""),
			netlink.LinkSetUp(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 1}}),
			netlink.AddrAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 1}}, &netlink.Addr{
				IPNet: netlink.NewIPNet([]byte{192, 0, 2, 1}),
			}),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		p, err := kubeproxy.Start(programs, debian.Dir())
		if err != nil {
			t.Error(err)
			return nil
		}
		defer func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}()
		for _, port := range []uint16{80, 81} {
			err = p.Apply(context.Background(), []service.Service{{
				Name: "web:http", Protocol: service.TCP, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, Port: port,
				Endpoints: []service.Endpoint{{Address: netip.MustParseAddr("192.0.2.7"), Port: 8080}},
			}})
			if err != nil {
				t.Error(err)
				return nil
			}
			if got := elements(t); len(got) != 1 || got[0].Key[9] != byte(port) {
				t.Errorf("got %v, want one service with the port %d", got, port)
			}
		}
		return nil
	})
}

// elements returns those of kube-proxy's map of services.
func elements(t *testing.T) []nftables.SetElement {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Error(err)
		return nil
	}
	set, err := c.GetSetByName(&nftables.Table{Name: "kube-proxy", Family: nftables.TableFamilyIPv4}, "service-ips")
	if err != nil {
		t.Error(err)
		return nil
	}
	all, err := c.GetSetElements(set)
	if err != nil {
		t.Error(err)
	}
	return all
}
