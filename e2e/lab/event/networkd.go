package event

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/lostthread"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// networkd is systemd-networkd on a node, with one .network file for the uplink, and without D-Bus, which it does not
// need.
type networkd struct {
	uplink string
	config []byte // the .network file
	cmd    *exec.Cmd
	log    *bytes.Buffer
}

// These are the paths of systemd-networkd and of its configuration, and how long it may take to configure a link.
const (
	networkdProgram = "/lib/systemd/systemd-networkd"
	networkdFile    = "/run/systemd/network/10-cnitest.network"
	networkdLimit   = 20 * time.Second
)

// startNetworkd hands the uplink over to systemd-networkd.
func startNetworkd(n *Node) (*networkd, error) {
	d := &networkd{uplink: n.config.Uplink, config: n.networkFile()}
	return d, d.start()
}

// networkFile returns a .network file (systemd.network(5)) with what belongs to the node.
func (n *Node) networkFile() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "[Match]\nName=%s\n[Network]\nIPv6AcceptRA=no\nLLDP=no\n", n.config.Uplink)
	for _, a := range n.addresses {
		fmt.Fprintf(&b, "[Address]\nAddress=%s\n", a.IPNet)
		if a.IP.To4() == nil {
			b.WriteString("DuplicateAddressDetection=none\n")
		} else if a.Broadcast == nil {
			// Else version 252 takes the address for another one, and replaces it for ever.
			b.WriteString("Broadcast=no\n")
		}
	}
	for _, r := range n.routes {
		b.WriteString("[Route]\n")
		if r.Gw != nil {
			fmt.Fprintf(&b, "Gateway=%s\nGatewayOnLink=yes\n", r.Gw)
		}
		if r.Dst != nil && !isDefault(r.Dst) {
			fmt.Fprintf(&b, "Destination=%s\n", r.Dst)
		}
	}
	return b.Bytes()
}

func isDefault(n *net.IPNet) bool {
	ones, _ := n.Mask.Size()
	return ones == 0
}

// start starts the program and waits until it has configured the uplink.
func (d *networkd) start() error {
	d.log = &bytes.Buffer{}
	d.cmd = exec.Command(networkdProgram)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_LOG_TARGET=console"}
	here, err := lostthread.Here()
	if err != nil {
		return err
	}
	defer here.Close()
	// It only takes what it finds for foreign if there is a udev, which it knows by a /sys that can be written to. The
	// thread, and what it starts, gets one, and a /run of its own.
	err = lostthread.Do(func() error {
		for _, step := range []func() error{
			here.Enter,
			func() error { return unix.Unshare(unix.CLONE_NEWNS) },
			func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
			func() error {
				return unix.MountSetattr(unix.AT_FDCWD, "/sys", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
			},
			func() error { return unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") },
			d.prepare,
			d.cmd.Start,
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("systemd-networkd: %w", err)
	}
	return d.waitUntilConfigured()
}

// prepare writes the files that the program reads: its configuration, and what udev tells of the uplink
// (sd_device_get_is_initialized(3)). It waits for udev before it touches any other link.
func (d *networkd) prepare() error {
	link, err := netlinksafe.LinkByName(d.uplink)
	if err != nil {
		return err
	}
	for path, data := range map[string][]byte{
		networkdFile: d.config,
		fmt.Sprintf("/run/udev/data/n%d", link.Attrs().Index): []byte("I:1\nG:systemd\nQ:systemd\nV:1\n"),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as on any machine
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil { //nolint:gosec // networkd is another user
			return err
		}
	}
	return nil
}

func (d *networkd) waitUntilConfigured() error {
	link, err := netlinksafe.LinkByName(d.uplink)
	if err != nil {
		return err
	}
	file := fmt.Sprintf("/proc/%d/root/run/systemd/netif/links/%d", d.cmd.Process.Pid, link.Attrs().Index)
	for interval := machinetime.Start(); interval.Given() < networkdLimit; time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(data), "ADMIN_STATE=configured\n") {
			return nil
		}
		if err == nil && strings.Contains(string(data), "ADMIN_STATE=failed\n") {
			break
		}
	}
	_ = d.stop()
	return fmt.Errorf("systemd-networkd did not configure %s; it said: %s", d.uplink, d.log)
}

// stop ends the program, as `systemctl stop` does.
func (d *networkd) stop() error {
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	end := time.AfterFunc(networkdLimit, func() { _ = d.cmd.Process.Kill() })
	defer end.Stop()
	var exited *exec.ExitError
	if err := d.cmd.Wait(); err != nil && !errors.As(err, &exited) {
		return err
	}
	return nil
}

// restartNetworkd is `systemctl restart systemd-networkd`.
func (n *Node) restartNetworkd() error {
	if err := n.networkd.stop(); err != nil {
		return err
	}
	return n.networkd.start()
}
