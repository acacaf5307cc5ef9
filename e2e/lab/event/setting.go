package event

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// conf is where the settings of IPv4 are, for each interface.
const conf = "/proc/sys/net/ipv4/conf"

// applySysctls sets, for every interface that exists, what a line with an asterisk in a file of sysctl.d sets: reverse
// path filters, strict (1, as in 50-redhat.conf) or loose (2, as in systemd's 50-default.conf), no source routes, and
// the next address when the first one goes (as in the same file).
func (n *Node) applySysctls(filter string) error {
	interfaces, err := os.ReadDir(conf)
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		if i.Name() == "all" {
			continue // systemd's file leaves it out: an interface has the larger one of the two values
		}
		for name, value := range map[string]string{
			"rp_filter": filter, "accept_source_route": "0", "promote_secondaries": "1",
		} {
			if err := n.set(filepath.Join(conf, i.Name(), name), value); err != nil {
				return err
			}
		}
	}
	return nil
}

// setStrictARP sets what kube-proxy's option --ipvs-strict-arp sets.
func (n *Node) setStrictARP() error {
	if err := n.set(conf+"/all/arp_ignore", "1"); err != nil {
		return err
	}
	return n.set(conf+"/all/arp_announce", "2")
}

// set writes a setting. Undo writes the value that it had, unless its interface is gone.
func (n *Node) set(path, value string) error {
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(before)) == value {
		return nil
	}
	n.undo = append(n.undo, func() error {
		err := os.WriteFile(path, before, 0o644) //nolint:gosec // a sysctl
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil { //nolint:gosec // a sysctl
		return fmt.Errorf("sysctl %s: %w", path, err)
	}
	return nil
}

// hasRandomMAC reports whether the kernel chose the MAC of a link at random.
func hasRandomMAC(link string) (bool, error) {
	data, err := os.ReadFile("/sys/class/net/" + link + "/addr_assign_type")
	if err != nil {
		return false, fmt.Errorf("link %s: %w", link, err)
	}
	const random = "1" // NET_ADDR_RANDOM
	return strings.TrimSpace(string(data)) == random, nil
}

// persistentMAC returns a MAC that follows from a name, with the bit of locally administered ones.
func persistentMAC(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}
