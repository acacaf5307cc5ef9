package event

import (
	"errors"
	"fmt"
	"slices"

	"github.com/containernetworking/plugins/pkg/netlinksafe"

	"github.com/cnitest/cnitest/e2e/lab/debian"
)

// A service is a program of Debian that runs on the node from Remember to Close, by the name of its event.
type service struct {
	start  func(*Node, *debian.Root) error
	happen func(*debian.Root) error
}

func services() map[string]service {
	return map[string]service{
		FirewalldReloads:       {startFirewalld, reloadFirewalld},
		UFWReloads:             {startUFW, reloadUFW},
		RulesetListed:          {startNothing, listRuleset},
		UdevTriggered:          {startUdev, triggerUdev},
		NetworkManagerRestarts: {startNetworkManager, restartNetworkManager},
	}
}

// startServices starts those of the node's events.
func (n *Node) startServices() error {
	for name, s := range services() {
		if !slices.Contains(n.config.Events, name) {
			continue
		}
		d, err := debian.Open(n.config.Programs)
		if err != nil {
			return err
		}
		n.debian[name] = d
		if err := s.start(n, d); err != nil {
			return fmt.Errorf("event %s: %w", name, err)
		}
	}
	return nil
}

// serve returns what an event does with its service.
func serve(name string) func(*Node) error {
	return func(n *Node) error {
		d := n.debian[name]
		if d == nil {
			return errors.New("its program was not started")
		}
		return services()[name].happen(d)
	}
}

// startFirewalld starts firewalld with a zone that accepts: what an administrator must allow is no matter of a plugin.
func startFirewalld(_ *Node, d *debian.Root) error {
	if err := d.Write("/etc/firewalld/firewalld.conf", "DefaultZone=trusted\n"); err != nil {
		return err
	}
	if err := d.StartBus(); err != nil {
		return err
	}
	if err := d.Start("/usr/bin/python3", "/usr/sbin/firewalld", "--nofork", "--nopid"); err != nil {
		return err
	}
	return d.Await("firewalld", func() (bool, error) {
		return d.Run("/usr/bin/python3", "/usr/bin/firewall-cmd", "--quiet", "--state") == nil, nil
	})
}

func reloadFirewalld(d *debian.Root) error {
	return d.Run("/usr/bin/python3", "/usr/bin/firewall-cmd", "--quiet", "--reload")
}

// startUFW enables ufw with policies that accept.
func startUFW(_ *Node, d *debian.Root) error {
	const defaults = `IPV6=yes
DEFAULT_INPUT_POLICY="ACCEPT"
DEFAULT_OUTPUT_POLICY="ACCEPT"
DEFAULT_FORWARD_POLICY="ACCEPT"
DEFAULT_APPLICATION_POLICY="SKIP"
MANAGE_BUILTINS=no
IPT_SYSCTL=/etc/ufw/sysctl.conf
IPT_MODULES=""
`
	if err := d.Write("/etc/default/ufw", defaults); err != nil {
		return err
	}
	if err := d.Run("/usr/bin/python3", "/usr/sbin/ufw", "--force", "enable"); err != nil {
		return err
	}
	return reloadUFW(d) // which version 0.36 gives two rules more than enable does
}

func reloadUFW(d *debian.Root) error { return d.Run("/usr/bin/python3", "/usr/sbin/ufw", "reload") }

// startUdev starts udev, which then gives each link that appears a persistent MAC (99-default.link).
func startUdev(_ *Node, d *debian.Root) error {
	if err := d.Start("/lib/systemd/systemd-udevd"); err != nil {
		return err
	}
	if err := d.Await("udev", func() (bool, error) { return d.Has("/run/udev/control") }); err != nil {
		return err
	}
	return triggerUdev(d)
}

// triggerUdev makes udev look at all links as if they had just appeared, as at the end of a boot.
func triggerUdev(d *debian.Root) error {
	if err := d.Run("/usr/bin/udevadm", "trigger", "--subsystem-match=net", "--action=add"); err != nil {
		return err
	}
	return d.Run("/usr/bin/udevadm", "settle", "--timeout=30")
}

// startNetworkManager starts udev and NetworkManager, which by default (1.42) leaves alone virtual links that others
// made, but not all of their settings. The node's own links are left to the lab.
func startNetworkManager(n *Node, d *debian.Root) error {
	links, err := netlinksafe.LinkList()
	if err != nil {
		return err
	}
	config := "[main]\nplugins=keyfile\n[keyfile]\nunmanaged-devices="
	for _, l := range links {
		config += "interface-name:" + l.Attrs().Name + ";"
	}
	if err := d.Write("/etc/NetworkManager/NetworkManager.conf", config+"\n"); err != nil {
		return err
	}
	for _, step := range []func() error{func() error { return startUdev(n, d) }, d.StartBus} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := d.Start("/usr/sbin/NetworkManager", "--debug"); err != nil {
		return err
	}
	if err := awaitNetworkManager(d); err != nil {
		return err
	}
	return restartNetworkManager(d) // with which it also settles what it does to links that it does not manage
}

// awaitNetworkManager waits until NetworkManager has looked at all links.
func awaitNetworkManager(d *debian.Root) error {
	return d.Await("NetworkManager", func() (bool, error) {
		return d.Run("/usr/bin/nm-online", "--wait-for-startup", "--quiet", "--timeout=5") == nil, nil
	})
}

func restartNetworkManager(d *debian.Root) error {
	if err := d.Stop(); err != nil {
		return err
	}
	if err := d.Start("/usr/sbin/NetworkManager", "--debug"); err != nil {
		return err
	}
	if err := triggerUdev(d); err != nil {
		return err
	}
	return awaitNetworkManager(d)
}

func startNothing(*Node, *debian.Root) error { return nil }

// listRuleset lists the ruleset. Only what goes wrong is said.
func listRuleset(d *debian.Root) error {
	return d.Run("/usr/bin/dash", "-c", "nft list ruleset >/dev/null && nft -j list ruleset >/dev/null")
}
